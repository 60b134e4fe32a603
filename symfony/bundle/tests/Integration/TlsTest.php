<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Predis\Client;
use Snoke\WsBundle\Amqp\AmqpDsn;
use Snoke\WsBundle\Amqp\AmqpTarget;
use Snoke\WsBundle\Amqp\ExtAmqpPublisher;
use Snoke\WsBundle\Amqp\PhpAmqpLibPublisher;
use Snoke\WsBundle\Consumer\Amqp\AmqpBinding;
use Snoke\WsBundle\Consumer\Amqp\AmqpSettings;
use Snoke\WsBundle\Consumer\Amqp\AmqpSource;
use Snoke\WsBundle\Consumer\Amqp\ExtAmqpConsumer;
use Snoke\WsBundle\Consumer\Amqp\PhpAmqpLibConsumer;
use Snoke\WsBundle\Consumer\Redis\RedisStreamSettings;
use Snoke\WsBundle\Consumer\Redis\RedisStreamSource;
use Snoke\WsBundle\Exception\ExceptionInterface;
use Snoke\WsBundle\Exception\RedisException;
use Snoke\WsBundle\Publisher\Push;
use Snoke\WsBundle\Publisher\Transport\RabbitMqTransport;
use Snoke\WsBundle\Redis\PhpRedisClient;
use Snoke\WsBundle\Redis\PredisClient;
use Snoke\WsBundle\Redis\RedisClientInterface;
use Snoke\WsBundle\Redis\RedisDsn;
use Snoke\WsBundle\Tests\Support\Certificates;
use Snoke\WsBundle\Tests\Support\RabbitMqServer;
use Snoke\WsBundle\Tests\Support\RedisServer;

/**
 * TLS with an authority of one's own, by every library: what is right works, and nothing else.
 */
final class TlsTest extends TestCase
{
    private ?RedisServer $redis = null;

    protected function tearDown(): void
    {
        $this->redis?->remove();
    }

    /**
     * @dataProvider redisLibraries
     *
     * @param class-string<PhpRedisClient|PredisClient> $library
     */
    #[DataProvider('redisLibraries')]
    public function testRedis(string $library): void
    {
        $tls = Certificates::ofAddress();
        $this->redis = new RedisServer([], $tls);
        $dsn = $this->redis->dsn('wsgw:hunter2%40%2F@') . '?cacert=' . $tls->authority;
        self::redis($library, $this->redis->dsn() . '?cacert=' . $tls->authority)
            ->call('ACL', 'SETUSER', 'wsgw', 'on', '>hunter2@/', '~*', '+@all');
        $redis = self::redis($library, $dsn);
        self::assertSame('wsgw', $redis->call('ACL', 'WHOAMI'));

        // What blocks, too.
        $source = new RedisStreamSource(self::redis($library, $dsn), new RedisStreamSettings(['ws.inbox'], 'group', 'one'));
        self::assertNull($source->next(0.1));
        $redis->call('XADD', 'ws.inbox', '*', 'data', str_repeat('x', 1_000_000));
        self::assertSame(1_000_000, \strlen((string) $source->next(2.0)?->body));
        $source->close();

        $login = 'wsgw:hunter2%40%2F@';
        $port = $this->redis->port;
        self::assertSame('x', self::redis($library, "rediss://{$login}localhost:$port?verify=0")->call('ECHO', 'x'));
        $wrong = [
            'an authority that nobody knows' => "rediss://{$login}127.0.0.1:$port",
            'another name than the certificate has' => "rediss://{$login}localhost:$port?cacert={$tls->authority}",
            'no TLS' => "redis://{$login}127.0.0.1:$port",
            'a wrong password' => "rediss://wsgw:hunter2wrong@127.0.0.1:$port?cacert={$tls->authority}",
        ];
        foreach ($wrong as $what => $dsn) {
            try {
                self::redis($library, $dsn)->call('PING');
                self::fail($what . ' is accepted');
            } catch (RedisException $exception) {
                self::assertStringNotContainsString('hunter2', (string) $exception, $what);
            }
        }
    }

    /**
     * @dataProvider redisLibraries
     *
     * @param class-string<PhpRedisClient|PredisClient> $library
     */
    #[DataProvider('redisLibraries')]
    public function testRedisThatAsksForACertificate(string $library): void
    {
        $tls = Certificates::ofAddress();
        $this->redis = new RedisServer(['--tls-auth-clients', 'yes'], $tls);
        $dsn = $this->redis->dsn() . '?cacert=' . $tls->authority;
        self::assertSame('x', self::redis($library, "$dsn&cert={$tls->certificate}&key={$tls->key}")->call('ECHO', 'x'));

        $this->expectException(RedisException::class);
        self::redis($library, $dsn)->call('PING');
    }

    /**
     * @return iterable<string, array{class-string<PhpRedisClient|PredisClient>}>
     */
    public static function redisLibraries(): iterable
    {
        yield 'ext-redis' => [PhpRedisClient::class];
        if (version_compare(Client::VERSION, '2.0.0', '>=')) {
            // What an older one says is tested below.
            yield 'Predis' => [PredisClient::class];
        }
    }

    /**
     * @dataProvider amqpLibraries
     *
     * @param class-string<ExtAmqpPublisher|PhpAmqpLibPublisher>   $publisher
     * @param class-string<ExtAmqpConsumer|PhpAmqpLibConsumer> $consumer
     */
    #[DataProvider('amqpLibraries')]
    public function testRabbitMq(string $publisher, string $consumer): void
    {
        $port = RabbitMqServer::shared()->tlsPort;
        $tls = Certificates::ofName();
        $dsn = "amqps://guest:guest@localhost:$port/%2f?cacert={$tls->authority}";
        $name = 'tls.' . bin2hex(random_bytes(4));
        $source = static fn (string $dsn): AmqpSource => new AmqpSource(
            new $consumer(AmqpDsn::parse($dsn, 'x')),
            new AmqpSettings([new AmqpBinding($name, $name, $name)], deadLetterExchange: $name . '.dlq', deadLetterQueue: $name . '.dlq'),
        );
        $push = static fn (string $dsn) => (new RabbitMqTransport(new $publisher(AmqpDsn::parse($dsn, 'x'), new AmqpTarget($name, $name, true, 5.0))))
            ->publish(Push::create(['a'], str_repeat('x', 200_000)));

        foreach (['', "&cert={$tls->certificate}&key={$tls->key}"] as $options) {
            $read = $source($dsn . $options);
            self::assertNull($read->next(0.1));
            $push($dsn . $options);
            $entry = $read->next(5.0);
            self::assertNotNull($entry);
            self::assertGreaterThan(200_000, \strlen((string) $entry->body));
            $read->deadLetter($entry, 'no event');
            $read->close();
        }
        $unverified = $source("amqps://guest:guest@127.0.0.1:$port/%2f?verify=0&cacert={$tls->authority}");
        self::assertNull($unverified->next(0.1));
        $unverified->close();
        $wrong = [
            'an authority that nobody knows' => "amqps://guest:guest@localhost:$port/%2f",
            'another name than the certificate has' => "amqps://guest:guest@127.0.0.1:$port/%2f?cacert={$tls->authority}",
            'a port without TLS' => sprintf('amqps://guest:guest@localhost:%d/%%2f?cacert=%s', RabbitMqServer::shared()->port, $tls->authority),
            'a wrong password' => "amqps://guest:hunter2@localhost:$port/%2f?cacert={$tls->authority}",
            'a missing file' => "amqps://guest:hunter2@localhost:$port/%2f?cacert=/nowhere.pem",
        ];
        foreach ($wrong as $what => $dsn) {
            foreach ([$push, static fn (string $dsn): mixed => $source($dsn)->next(0.1)] as $use) {
                try {
                    $use($dsn);
                    self::fail($what . ' is accepted');
                } catch (ExceptionInterface $exception) {
                    self::assertStringContainsString("RabbitMQ at ", $exception->getMessage(), $what);
                    self::assertStringNotContainsString('hunter2', (string) $exception, $what);
                }
            }
        }
    }

    /**
     * @return iterable<string, array{class-string, class-string}>
     */
    public static function amqpLibraries(): iterable
    {
        yield 'ext-amqp' => [ExtAmqpPublisher::class, ExtAmqpConsumer::class];
        yield 'php-amqplib' => [PhpAmqpLibPublisher::class, PhpAmqpLibConsumer::class];
    }

    public function testAPredisThatWouldChangeOtherConnectionsIsRefused(): void
    {
        if (version_compare(Client::VERSION, '2.0.0', '>=')) {
            self::assertSame([], stream_context_get_options(stream_context_get_default()), 'it does not');

            return;
        }
        $this->expectException(RedisException::class);
        $this->expectExceptionMessage('"composer require predis/predis:^2.0", or install ext-redis');
        self::redis(PredisClient::class, 'rediss://localhost')->call('PING');
    }

    /**
     * @param class-string<PhpRedisClient|PredisClient> $library
     */
    private static function redis(string $library, string $dsn): RedisClientInterface
    {
        $parsed = RedisDsn::parse($dsn, 'x');

        return new $library(static fn (): object => $library::connect($parsed, 2.0, 2.0), $parsed->address(), 2.0);
    }
}
