<?php

declare(strict_types=1);

/*
 * What a push costs the application: CPU time of PHP and time that passes, by every transport and library, to real
 * servers on private ports.
 *
 *     composer install --working-dir=symfony/bundle
 *     php symfony/benches/publish.php [PUSHES]
 */

use Snoke\WsBundle\Amqp\AmqpDsn;
use Snoke\WsBundle\Amqp\AmqpTarget;
use Snoke\WsBundle\Amqp\ExtAmqpPublisher;
use Snoke\WsBundle\Amqp\PhpAmqpLibPublisher;
use Snoke\WsBundle\Publisher\Transport\HttpTransport;
use Snoke\WsBundle\Publisher\Transport\RabbitMqTransport;
use Snoke\WsBundle\Publisher\Transport\RedisStreamTransport;
use Snoke\WsBundle\Publisher\WebsocketPublisher;
use Snoke\WsBundle\Redis\PhpRedisClient;
use Snoke\WsBundle\Redis\PredisClient;
use Snoke\WsBundle\Redis\RedisDsn;
use Snoke\WsBundle\Test\InMemoryTransport;
use Snoke\WsBundle\Tests\Support\Gateway;
use Snoke\WsBundle\Tests\Support\RabbitMqServer;
use Snoke\WsBundle\Tests\Support\RedisServer;
use Snoke\WsBundle\Token\TokenFactory;
use Symfony\Component\HttpClient\CurlHttpClient;
use Symfony\Component\HttpClient\NativeHttpClient;

require __DIR__ . '/../bundle/vendor/autoload.php';

$pushes = max(10, (int) ($argv[1] ?? 2000));
$rounds = 5;
$payload = ['type' => 'notice', 'text' => str_repeat('hello ', 20), 'n' => 7];

$cpu = static function (): float {
    $usage = getrusage();

    return $usage['ru_utime.tv_sec'] + $usage['ru_stime.tv_sec'] + ($usage['ru_utime.tv_usec'] + $usage['ru_stime.tv_usec']) / 1e6;
};
$measure = static function (string $name, callable $one, int $count) use ($cpu, $rounds): void {
    for ($i = 0; $i < 10; ++$i) {
        $one();
    }
    $found = [];
    for ($round = 0; $round < $rounds; ++$round) {
        [$usedBefore, $before] = [$cpu(), microtime(true)];
        for ($i = 0; $i < $count; ++$i) {
            $one();
        }
        $found[] = [1e6 * ($cpu() - $usedBefore) / $count, 1e6 * (microtime(true) - $before) / $count];
    }
    usort($found, static fn (array $a, array $b): int => $a[0] <=> $b[0]);
    printf("%-34s %8.1f µs CPU %9.1f µs\n", $name, ...$found[intdiv($rounds, 2)]);
};

printf("%d pushes to one user, median of %d rounds; PHP %s\n\n", $pushes, $rounds, \PHP_VERSION);
$send = static fn (WebsocketPublisher $publisher): Closure => static fn () => $publisher->toUser('42', $payload);

$memory = new InMemoryTransport();
$publisher = new WebsocketPublisher($memory);
$measure('nothing but the push itself', static function () use ($publisher, $memory, $payload): void {
    $publisher->toUser('42', $payload);
    $memory->reset();
}, $pushes);

$gateway = new Gateway("  stages: [ { fan_out: { events_mode: none } } ]\n");
foreach (['HTTP, curl' => new CurlHttpClient(), 'HTTP, PHP streams' => new NativeHttpClient()] as $name => $client) {
    $transport = new HttpTransport($client, $gateway->url(), '/internal/publish', Gateway::API_KEY);
    $measure($name, $send(new WebsocketPublisher($transport)), intdiv($pushes, 2));
}
$gateway->remove();

$redis = new RedisServer();
$dsn = RedisDsn::parse($redis->dsn(), 'bench');
$clients = [
    'Redis, ext-redis' => new PhpRedisClient(static fn () => PhpRedisClient::connect($dsn, 5, 5), 'bench', 5),
    'Redis, Predis' => new PredisClient(static fn () => PredisClient::connect($dsn, 5, 5), 'bench', 5),
];
foreach ($clients as $name => $client) {
    $measure($name, $send(new WebsocketPublisher(new RedisStreamTransport($client, 'ws.outbox', 10_000))), $pushes);
}
$redis->remove();

$rabbitmq = RabbitMqServer::shared();
$dsn = AmqpDsn::parse($rabbitmq->dsn(), 'bench');
$target = new AmqpTarget('ws.outbox', 'ws.outbox', true, 5.0);
foreach (['RabbitMQ, ext-amqp' => new ExtAmqpPublisher($dsn, $target), 'RabbitMQ, php-amqplib' => new PhpAmqpLibPublisher($dsn, $target)] as $name => $amqp) {
    $measure($name, $send(new WebsocketPublisher(new RabbitMqTransport($amqp))), intdiv($pushes, 4));
    $amqp->disconnect();
}

$keys = [
    'RS256' => ['private_key_type' => \OPENSSL_KEYTYPE_RSA, 'private_key_bits' => 2048],
    'ES256' => ['private_key_type' => \OPENSSL_KEYTYPE_EC, 'curve_name' => 'prime256v1'],
    'HS256' => null,
];
foreach ($keys as $algorithm => $options) {
    $key = str_repeat('k', 32);
    if (null !== $options) {
        openssl_pkey_export(openssl_pkey_new($options), $key);
    }
    $tokens = new TokenFactory($algorithm, $key);
    $measure("a token, $algorithm", static fn () => $tokens->forUser('42', ['room:7']), intdiv($pushes, 4));
}
