<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Amqp\AmqpDsn;
use Snoke\WsBundle\Amqp\AmqpPublisherInterface;
use Snoke\WsBundle\Amqp\AmqpTarget;
use Snoke\WsBundle\Amqp\ExtAmqpPublisher;
use Snoke\WsBundle\Amqp\PhpAmqpLibPublisher;
use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Publisher\Transport\HttpTransport;
use Snoke\WsBundle\Publisher\Transport\RabbitMqTransport;
use Snoke\WsBundle\Publisher\Transport\RedisStreamTransport;
use Snoke\WsBundle\Publisher\Transport\TransportInterface;
use Snoke\WsBundle\Publisher\WebsocketPublisher;
use Snoke\WsBundle\Redis\PhpRedisClient;
use Snoke\WsBundle\Redis\PredisClient;
use Snoke\WsBundle\Redis\RedisClientInterface;
use Snoke\WsBundle\Redis\RedisDsn;
use Snoke\WsBundle\Tests\Support\Gateway;
use Snoke\WsBundle\Tests\Support\RabbitMqServer;
use Snoke\WsBundle\Tests\Support\RedisServer;
use Snoke\WsBundle\Tests\Support\Server;
use Snoke\WsBundle\Token\TokenFactory;
use Symfony\Component\HttpClient\CurlHttpClient;
use Symfony\Component\HttpClient\NativeHttpClient;
use Symfony\Contracts\HttpClient\HttpClientInterface;

/**
 * Pushes arrive at a client of the real gateway, by every transport and every library.
 */
final class PublisherTest extends TestCase
{
    private const SECRET = '0123456789abcdef0123456789abcdef';

    private static ?RedisServer $redis = null;
    private ?Gateway $gateway = null;

    public static function setUpBeforeClass(): void
    {
        self::$redis = new RedisServer();
    }

    public static function tearDownAfterClass(): void
    {
        self::$redis?->remove();
    }

    protected function tearDown(): void
    {
        $this->gateway?->remove();
    }

    /**
     * @dataProvider httpClients
     */
    #[DataProvider('httpClients')]
    public function testPushesByHttp(HttpClientInterface $client): void
    {
        $this->gateway = self::gateway('');
        $publisher = new WebsocketPublisher($this->http($client));
        self::assertSame(0, $publisher->toUser('42', 1)->sent);

        $socket = $this->gateway->connect(self::token('42'));
        Server::wait('the connection', static fn (): bool => 1 === $publisher->toUser('42', ['text' => 'Grüße', 'n' => 1.0])->sent);

        self::assertSame('{"type":"event","payload":{"text":"Grüße","n":1.0}}', $socket->receive());
        $socket->close();
    }

    /**
     * @dataProvider httpClients
     */
    #[DataProvider('httpClients')]
    public function testARefusedConnectionIsTriedAgain(HttpClientInterface $client): void
    {
        $waits = [];
        $transport = new HttpTransport($client, 'http://127.0.0.1:' . Server::port(), '/internal/publish', 'hunter2', 2.0, 2, 2.0, static function (float $seconds) use (&$waits): void {
            $waits[] = $seconds;
        });

        try {
            (new WebsocketPublisher($transport))->send(['a'], 1);
            self::fail('It was sent to nobody.');
        } catch (PublishException $exception) {
            self::assertStringStartsWith('The gateway did not take the push: ', $exception->getMessage());
            self::assertStringNotContainsString('hunter2', $exception->getMessage());
        }
        self::assertSame([0.05, 0.1], $waits);
    }

    /**
     * @dataProvider httpClients
     */
    #[DataProvider('httpClients')]
    public function testWhatWasSentAndNotAnsweredIsNotTriedAgain(HttpClientInterface $client): void
    {
        $listener = stream_socket_server('tcp://127.0.0.1:0');
        self::assertNotFalse($listener);
        $transport = new HttpTransport($client, 'http://' . stream_socket_get_name($listener, false), '/', 'hunter2', 0.3, 2, 2.0, static function (): void {
            self::fail('It was tried again.');
        });

        $this->expectException(PublishException::class);
        (new WebsocketPublisher($transport))->send(['a'], 1);
    }

    public function testTheGatewaysReasonIsSaid(): void
    {
        $this->gateway = self::gateway('');
        $transport = new HttpTransport(new CurlHttpClient(), $this->gateway->url(), '/internal/publish', 'hunter2-wrong');

        try {
            (new WebsocketPublisher($transport))->send(['a'], 1);
            self::fail('The wrong key was accepted.');
        } catch (PublishException $exception) {
            self::assertSame(401, $exception->statusCode);
            self::assertTrue($exception->isRefusal());
            self::assertStringContainsString('the API key is not the gateway\'s server.api_key', $exception->getMessage());
            self::assertStringNotContainsString('hunter2', $exception->getMessage());
        }
    }

    /**
     * @return iterable<string, array{HttpClientInterface}>
     */
    public static function httpClients(): iterable
    {
        yield 'curl' => [new CurlHttpClient()];
        yield 'native' => [new NativeHttpClient()];
    }

    /**
     * @dataProvider redisClients
     *
     * @param \Closure(string): RedisClientInterface $client
     */
    #[DataProvider('redisClients')]
    public function testPushesByRedis(\Closure $client): void
    {
        $dsn = self::$redis->dsn();
        $this->gateway = self::gateway("  transport: { redis_stream: { dsn: \"$dsn\" } }");
        $socket = $this->connected('42');
        $redis = $client($dsn);
        $publisher = new WebsocketPublisher(new RedisStreamTransport($redis, 'ws.outbox', 100));

        $result = $publisher->send(['user:42', 'room:7'], ['text' => 'Grüße']);

        self::assertMatchesRegularExpression('/^\d+-\d+$/', (string) $result->messageId);
        self::assertSame('{"type":"event","payload":{"text":"Grüße"}}', $socket->receive());
        $socket->close();
    }

    /**
     * @dataProvider redisClients
     *
     * @param \Closure(string): RedisClientInterface $client
     */
    #[DataProvider('redisClients')]
    public function testAKeptConnectionToRedisIsMadeAgain(\Closure $client): void
    {
        $server = new RedisServer();
        try {
            $redis = $client($server->dsn());
            $publisher = new WebsocketPublisher(new RedisStreamTransport($redis));
            $publisher->send(['a'], 1);
            $id = $redis->call('CLIENT', 'ID');
            $publisher->send(['a'], 2);
            self::assertSame($id, $redis->call('CLIENT', 'ID'), 'The connection is kept.');
            $server->stop();
            $server->start();

            $publisher->send(['a'], 3);

            self::assertSame(1, $redis->call('XLEN', 'ws.outbox'));
            $server->stop();
            try {
                $publisher->send(['a'], 4);
                self::fail('It was sent to a Redis that is not there.');
            } catch (PublishException $exception) {
                self::assertStringContainsString('Redis at 127.0.0.1:' . $server->port, $exception->getMessage());
            }
        } finally {
            $server->remove();
        }
    }

    /**
     * @dataProvider redisClients
     *
     * @param \Closure(string): RedisClientInterface $client
     */
    #[DataProvider('redisClients')]
    public function testWhenACommandIsRepeated(\Closure $client): void
    {
        foreach (
            [
                // A kept connection that breaks: once more, by a new one.
                [['answer', 'close', 'answer'], false],
                // Once, not for ever.
                [['answer', 'close', 'close', 'answer'], true],
                // A connection that never worked is not made again.
                [['close', 'answer'], true],
                // What hangs would hang again, and the command may be under way.
                [['answer', 'hang', 'answer'], true],
            ] as [$words, $fails]
        ) {
            $port = Server::port();
            $server = new Server([\PHP_BINARY, __DIR__ . '/../Support/unreliable-redis.php', (string) $port, ...$words], Server::directory());
            Server::wait('it', static fn (): bool => Server::accepts($port));
            $redis = $client("redis://127.0.0.1:$port", 0.5);
            $lost = false;
            try {
                $redis->call('PING');
                $redis->call('PING');
            } catch (\Snoke\WsBundle\Exception\RedisException $exception) {
                $lost = $exception->isLost;
            }
            self::assertSame($fails, $lost, implode(' ', $words));
            $used = array_search('answer', \array_slice($words, 1), true);
            self::assertSame($fails ? \array_slice($words, 0, $used + 1) : $words, explode("\n", trim($server->output())), implode(' ', $words));
            $redis->disconnect();
            $server->remove();
        }
    }

    /**
     * @dataProvider redisClients
     *
     * @param \Closure(string): RedisClientInterface $client
     */
    #[DataProvider('redisClients')]
    public function testRedisAnswersAreTheSameByEveryLibrary(\Closure $client): void
    {
        $redis = $client(self::$redis->dsn());
        $redis->call('DEL', 'h', 's', 'x');

        self::assertSame('OK', $redis->call('SET', 's', 'v'));
        self::assertNull($redis->call('GET', 'nothing'));
        self::assertSame([1, ['v', null], 'v'], $redis->pipeline([['HSET', 'h', 'f', 'v'], ['HMGET', 'h', 'f', 'g'], ['GET', 's']]));
        try {
            $redis->call('XADD', 's', '*', 'data', 'hunter2');
            self::fail('A string became a stream.');
        } catch (\Snoke\WsBundle\Exception\RedisException $exception) {
            self::assertSame(['WRONGTYPE', false], [$exception->code(), $exception->isLost]);
        }
        try {
            $redis->call('BANANA', 'hunter2');
            self::fail('There is no such command.');
        } catch (\Snoke\WsBundle\Exception\RedisException $exception) {
            self::assertStringNotContainsString('hunter2', $exception->getMessage());
        }
        try {
            $redis->pipeline([['SET', 'x', '1'], ['LPUSH', 's', 'v'], ['SET', 'y', '1']]);
            self::fail('A string became a list.');
        } catch (\Snoke\WsBundle\Exception\RedisException $exception) {
            self::assertSame('WRONGTYPE', $exception->code());
        }
        self::assertSame('v', $redis->call('GET', 's'), 'The connection goes on.');
    }

    public function testAUserAndPasswordOfRedis(): void
    {
        $admin = self::redisClients()['ext-redis'][0](self::$redis->dsn());
        $admin->call('ACL', 'SETUSER', 'wsgw', 'on', '>hunter2@/', '~*', '+@all');

        foreach (self::redisClients() as $name => [$client]) {
            self::assertSame('wsgw', $client(self::$redis->dsn('wsgw:hunter2%40%2F@'))->call('ACL', 'WHOAMI'), $name);
            try {
                $client(self::$redis->dsn('wsgw:hunter2wrong@'))->call('PING');
                self::fail('The wrong password was accepted by ' . $name);
            } catch (\Snoke\WsBundle\Exception\RedisException $exception) {
                self::assertStringNotContainsString('hunter2', $exception->getMessage());
                self::assertStringContainsString('WRONGPASS', $exception->getMessage());
            }
        }
    }

    /**
     * @return array<string, array{\Closure(string): RedisClientInterface}>
     */
    public static function redisClients(): array
    {
        return [
            'ext-redis' => [static function (string $dsn, float $seconds = 5.0): RedisClientInterface {
                $parsed = RedisDsn::parse($dsn, 'x');

                return new PhpRedisClient(static fn () => PhpRedisClient::connect($parsed, 5, $seconds), $parsed->address(), $seconds);
            }],
            'Predis' => [static function (string $dsn, float $seconds = 5.0): RedisClientInterface {
                $parsed = RedisDsn::parse($dsn, 'x');

                return new PredisClient(static fn () => PredisClient::connect($parsed, 5, $seconds), $parsed->address(), $seconds);
            }],
        ];
    }

    /**
     * @dataProvider amqpPublishers
     *
     * @param class-string<AmqpPublisherInterface> $class
     */
    #[DataProvider('amqpPublishers')]
    public function testPushesByRabbitMq(string $class): void
    {
        $server = RabbitMqServer::shared();
        $amqp = new $class(AmqpDsn::parse($server->dsn(), 'x'), new AmqpTarget('ws.outbox', 'ws.outbox', true, 5.0));
        $publisher = new WebsocketPublisher(new RabbitMqTransport($amqp));
        self::assertSame(0, $publisher->send(['user:42'], 'nobody listens')->sent);

        $dsn = $server->dsn();
        $this->gateway = self::gateway("  transport: { rabbitmq: { dsn: \"$dsn\" } }");
        $socket = $this->connected('42');
        $result = $publisher->send(['user:42'], ['text' => 'Grüße']);

        self::assertNull($result->sent);
        self::assertSame('{"type":"event","payload":{"text":"Grüße"}}', $socket->receive());
        $socket->close();
        $amqp->disconnect();
    }

    /**
     * @dataProvider amqpPublishers
     *
     * @param class-string<AmqpPublisherInterface> $class
     */
    #[DataProvider('amqpPublishers')]
    public function testAKeptConnectionToRabbitMqIsMadeAgain(string $class): void
    {
        $server = RabbitMqServer::shared();
        $amqp = new $class(AmqpDsn::parse($server->dsn(), 'x'), new AmqpTarget('ws.outbox', 'ws.outbox', true, 5.0));
        $publisher = new WebsocketPublisher(new RabbitMqTransport($amqp));
        $publisher->send(['a'], 1);
        $server->kill();
        try {
            $publisher->send(['a'], 2);
            self::fail('It was sent to a RabbitMQ that is not there.');
        } catch (PublishException $exception) {
            self::assertStringContainsString('RabbitMQ at 127.0.0.1:' . $server->port, $exception->getMessage());
        }
        $server->start();

        self::assertSame(0, $publisher->send(['a'], 3)->sent);
        // Kept, and lost without a word.
        $server->kill();
        $server->start();
        self::assertSame(0, $publisher->send(['a'], 4)->sent);
        $amqp->disconnect();
    }

    /**
     * @dataProvider amqpPublishers
     *
     * @param class-string<AmqpPublisherInterface> $class
     */
    #[DataProvider('amqpPublishers')]
    public function testRabbitMqsRefusalsAreSaid(string $class): void
    {
        $dsn = RabbitMqServer::shared()->dsn();
        $missing = new $class(AmqpDsn::parse($dsn, 'x'), new AmqpTarget('no.such', 'x', false, 5.0));
        $badLogin = new $class(AmqpDsn::parse(str_replace('guest:guest', 'guest:hunter2', $dsn), 'x'), new AmqpTarget('a', 'x', true, 5.0));

        foreach ([$missing, $badLogin] as $amqp) {
            try {
                (new WebsocketPublisher(new RabbitMqTransport($amqp)))->send(['a'], 1);
                self::fail('It was accepted.');
            } catch (PublishException $exception) {
                self::assertStringNotContainsString('hunter2', $exception->getMessage());
            }
        }
    }

    /**
     * @return iterable<string, array{class-string<AmqpPublisherInterface>}>
     */
    public static function amqpPublishers(): iterable
    {
        yield 'ext-amqp' => [ExtAmqpPublisher::class];
        yield 'php-amqplib' => [PhpAmqpLibPublisher::class];
    }

    private function http(HttpClientInterface $client): TransportInterface
    {
        return new HttpTransport($client, $this->gateway->url(), '/internal/publish', Gateway::API_KEY);
    }

    /**
     * A client that the gateway is known to have.
     */
    private function connected(string $user): \Snoke\WsBundle\Tests\Support\WsClient
    {
        $socket = $this->gateway->connect(self::token($user));
        $socket->send('{"type":"ping"}');
        self::assertSame('{"type":"pong"}', $socket->receive());

        return $socket;
    }

    private static function gateway(string $settings): Gateway
    {
        return new Gateway(
            "  stages: [ { auth: { jwt: { algorithm: HS256, public_key: \"" . self::SECRET . "\" } } }, { ping_filter: {} }, { fan_out: { events_mode: none } } ]\n" . $settings,
        );
    }

    private static function token(string $user): string
    {
        return (new TokenFactory('HS256', self::SECRET))->forUser($user)->value;
    }
}
