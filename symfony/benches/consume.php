<?php

declare(strict_types=1);

/*
 * What an event costs the application until its listeners are called: CPU time of PHP and time that passes, by every
 * way in, with real brokers on private ports. The listener does nothing.
 *
 *     composer install --working-dir=symfony/bundle
 *     php symfony/benches/consume.php [EVENTS]
 */

use Snoke\WsBundle\Amqp\AmqpDsn;
use Snoke\WsBundle\Consumer\Amqp\AmqpBinding;
use Snoke\WsBundle\Consumer\Amqp\AmqpSettings;
use Snoke\WsBundle\Consumer\Amqp\AmqpSource;
use Snoke\WsBundle\Consumer\Amqp\ExtAmqpConsumer;
use Snoke\WsBundle\Consumer\Amqp\PhpAmqpLibConsumer;
use Snoke\WsBundle\Consumer\EventSourceInterface;
use Snoke\WsBundle\Consumer\Redis\RedisStreamSettings;
use Snoke\WsBundle\Consumer\Redis\RedisStreamSource;
use Snoke\WsBundle\Consumer\Worker;
use Snoke\WsBundle\Consumer\WorkerOptions;
use Snoke\WsBundle\Event\EventFactory;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Snoke\WsBundle\Handler\EventReceiver;
use Snoke\WsBundle\Redis\RedisClientFactory;
use Snoke\WsBundle\Tests\Support\RabbitMqServer;
use Snoke\WsBundle\Tests\Support\RedisServer;
use Snoke\WsBundle\Webhook\SignatureVerifier;
use Snoke\WsBundle\Webhook\WebhookController;
use Symfony\Component\EventDispatcher\EventDispatcher;
use Symfony\Component\HttpFoundation\Request;

require __DIR__ . '/../bundle/vendor/autoload.php';

$events = max(100, (int) ($argv[1] ?? 5000));
$rounds = 5;
$json = static fn (int $n): string => (string) json_encode([
    'type' => 'message_received',
    'connection_id' => '0192f5a8-3c1e-7b42-9d6f-2a8e5c7b1d30',
    'user_id' => '42',
    'subjects' => ['user:42'],
    'connected_at' => 1700000000,
    'message' => ['type' => 'chat', 'payload' => 'hello world'],
    'raw' => '{"type":"chat","payload":"hello world"}',
    'event_id' => sprintf('0192f5a8-4d2a-7c55-b3e7-%012d', $n),
    'seq' => $n + 1,
]);
$cpu = static function (): float {
    $usage = getrusage();

    return $usage['ru_utime.tv_sec'] + $usage['ru_stime.tv_sec'] + ($usage['ru_utime.tv_usec'] + $usage['ru_stime.tv_usec']) / 1e6;
};
$calls = 0;
$dispatcher = new EventDispatcher();
$dispatcher->addListener(WebsocketMessageReceivedEvent::class, static function () use (&$calls): void {
    ++$calls;
});
$receiver = new EventReceiver($dispatcher);

/** @param Closure(): void $fill */
$measure = static function (string $name, Closure $fill, Closure $all) use ($cpu, $rounds, $events, &$calls): void {
    $found = [];
    for ($round = 0; $round <= $rounds; ++$round) {
        $fill();
        $calls = 0;
        [$usedBefore, $before] = [$cpu(), microtime(true)];
        $all();
        $found[$round] = [1e6 * ($cpu() - $usedBefore) / $events, 1e6 * (microtime(true) - $before) / $events];
        if ($calls !== $events) {
            throw new RuntimeException(sprintf('%s: %d of %d events were handled', $name, $calls, $events));
        }
    }
    // The first one warms up.
    unset($found[0]);
    usort($found, static fn (array $a, array $b): int => $a[0] <=> $b[0]);
    printf("%-34s %8.1f µs CPU %9.1f µs\n", $name, ...$found[intdiv($rounds, 2)]);
};
$consume = static fn (EventSourceInterface $source): Closure => static function () use ($source, $receiver, $events): void {
    (new Worker(new EventFactory(), $receiver))->run($source, new WorkerOptions(limit: $events));
};

printf("%d events, median of %d rounds; PHP %s\n\n", $events, $rounds, \PHP_VERSION);

$factory = new EventFactory();
$texts = array_map($json, range(0, $events - 1));
$measure('nothing but event and listener', static fn () => null, static function () use ($texts, $factory, $receiver): void {
    foreach ($texts as $text) {
        $receiver->receive($factory->fromJson($text), 'bench');
    }
});

$controller = new WebhookController(new SignatureVerifier('a secret'), $factory, $receiver);
$requests = [];
$measure('webhook, without the kernel', static function () use (&$requests, $texts): void {
    $requests = array_map(static function (string $text): Request {
        $request = Request::create('/internal/ws/events', 'POST', content: $text);
        $time = (string) time();
        $request->headers->add([
            'webhook-id' => 'id',
            'webhook-timestamp' => $time,
            'webhook-signature' => 'v1,' . base64_encode(hash_hmac('sha256', "id.$time.$text", 'a secret', true)),
        ]);

        return $request;
    }, $texts);
}, static function () use (&$requests, $controller): void {
    foreach ($requests as $request) {
        $controller($request);
    }
});
$requests = [];

$redis = new RedisServer();
$writer = new Redis();
$writer->connect('127.0.0.1', $redis->port);
$fill = static function () use ($writer, $texts): void {
    foreach (array_chunk($texts, 500) as $chunk) {
        $writer->multi(Redis::PIPELINE);
        foreach ($chunk as $text) {
            $writer->xAdd('ws.inbox', '*', ['data' => $text]);
        }
        $writer->exec();
    }
};
foreach (['kept' => false, 'removed' => true] as $what => $delete) {
    $source = new RedisStreamSource(
        RedisClientFactory::create($redis->dsn(), 'bench', 5.0, 8.0),
        new RedisStreamSettings(['ws.inbox'], 'bench', 'bench', deleteAfterAck: $delete),
    );
    $measure('Redis, entries ' . $what, $fill, $consume($source));
    $writer->del('ws.inbox');
}
$redis->remove();

$rabbitmq = RabbitMqServer::shared();
$dsn = AmqpDsn::parse($rabbitmq->dsn(), 'bench');
$settings = new AmqpSettings([new AmqpBinding('ws.inbox', 'ws.inbox', 'ws.inbox')]);
foreach (['php-amqplib' => new PhpAmqpLibConsumer($dsn), 'ext-amqp' => new ExtAmqpConsumer($dsn)] as $name => $library) {
    $source = new AmqpSource($library, $settings);
    $source->next(0.001);
    $source->close();
    $connection = new AMQPConnection(['host' => '127.0.0.1', 'port' => $rabbitmq->port]);
    $connection->connect();
    $exchange = new AMQPExchange(new AMQPChannel($connection));
    $exchange->setName('ws.inbox');
    $measure('RabbitMQ, ' . $name, static function () use ($exchange, $texts): void {
        foreach ($texts as $n => $text) {
            $exchange->publish($text, 'ws.inbox', AMQP_NOPARAM, ['delivery_mode' => 2, 'message_id' => (string) $n]);
        }
        usleep(500_000);
    }, $consume($source));
}
