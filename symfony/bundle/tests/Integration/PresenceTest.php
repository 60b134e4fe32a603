<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Event\WebsocketConnectionClosedEvent;
use Snoke\WsBundle\Event\WebsocketConnectionEstablishedEvent;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Snoke\WsBundle\Event\EventFactory;
use Snoke\WsBundle\Exception\PresenceException;
use Snoke\WsBundle\Presence\Connection;
use Snoke\WsBundle\Presence\PresenceInterpreter;
use Snoke\WsBundle\Presence\PresenceProvider;
use Snoke\WsBundle\Presence\Store\HttpPresenceStore;
use Snoke\WsBundle\Presence\Store\RedisPresenceStore;
use Snoke\WsBundle\Presence\Writer\PresenceListener;
use Snoke\WsBundle\Presence\Writer\RedisPresenceWriter;
use Snoke\WsBundle\Redis\RedisClientFactory;
use Snoke\WsBundle\Redis\RedisClientInterface;
use Snoke\WsBundle\Tests\Support\Gateway;
use Snoke\WsBundle\Tests\Support\RedisServer;
use Snoke\WsBundle\Tests\Support\Server;
use Snoke\WsBundle\Token\TokenFactory;

/**
 * Who is online, by a real Redis and the real gateway.
 */
final class PresenceTest extends TestCase
{
    private const SECRET = '0123456789abcdef0123456789abcdef';

    private static ?RedisServer $server = null;
    private RedisClientInterface $redis;
    private ?Gateway $gateway = null;

    public static function setUpBeforeClass(): void
    {
        self::$server = new RedisServer();
    }

    public static function tearDownAfterClass(): void
    {
        self::$server?->remove();
    }

    protected function setUp(): void
    {
        $this->redis = RedisClientFactory::create(self::$server->dsn(), 'presence.redis.dsn');
        $this->redis->call('FLUSHALL');
    }

    protected function tearDown(): void
    {
        $this->gateway?->remove();
    }

    public function testWhatTheGatewayKeepsInRedisIsRead(): void
    {
        $dsn = self::$server->dsn();
        $this->gateway = self::gateway("  presence: { type: redis, redis: { dsn: \"$dsn\" } }\n");
        $byRedis = new PresenceProvider(new RedisPresenceStore($this->redis), new PresenceInterpreter('ttl'));
        $byHttp = new PresenceProvider($this->http(), new PresenceInterpreter('ttl'));
        $first = $this->gateway->connect(self::token('42', ['room:7']));
        $second = $this->gateway->connect(self::token('42'));
        Server::wait('presence', static fn (): bool => 2 === \count($byRedis->connectionsOfUser('42')));

        self::assertEquals($byRedis->connectionsOfUser('42'), $byHttp->connectionsOfUser('42'));
        self::assertSame(['user:42', 'room:7'], $byRedis->connectionsOfSubject('room:7')[0]->subjects);
        self::assertEqualsWithDelta(time(), $byRedis->connectionsOfSubject('room:7')[0]->connectedAt, 5);
        self::assertTrue($byRedis->isOnline('42'));
        self::assertFalse($byRedis->isOnline('7'));
        self::assertFalse($byHttp->isOnline('7'));

        $first->close();
        Server::wait('its end', static fn (): bool => 1 === \count($byRedis->connectionsOfUser('42')));
        $second->close();
        Server::wait('its end', static fn (): bool => !$byRedis->isOnline('42') && !$byHttp->isOnline('42'));
    }

    public function testAListOverSeveralPagesIsWhole(): void
    {
        $this->gateway = self::gateway('');
        $sockets = [];
        for ($i = 0; $i < 1001; ++$i) {
            $sockets[] = $this->gateway->connect(self::token('42'));
        }
        Server::wait('all', fn (): bool => 1001 === \count(iterator_to_array($this->http()->ofUser('42'), false)));
        $ids = array_map(static fn (Connection $connection): string => $connection->connectionId, iterator_to_array($this->http()->ofSubject('user:42'), false));

        self::assertCount(1001, array_unique($ids));
        unset($sockets);
    }

    public function testAnEmptyNameIsNobodyAndNotEverybody(): void
    {
        $this->gateway = self::gateway('');
        $socket = $this->gateway->connect(self::token('42'));
        Server::wait('it', fn (): bool => [] !== iterator_to_array($this->http()->ofUser('42')));

        self::assertSame([], iterator_to_array($this->http()->ofSubject('')));
        $socket->close();
    }

    public function testTheGatewaysRefusalIsSaid(): void
    {
        $this->gateway = self::gateway('');

        $this->expectException(PresenceException::class);
        $this->expectExceptionMessage('it answered 401: the API key is not the gateway\'s server.api_key.');
        iterator_to_array((new HttpPresenceStore(null, $this->gateway->url(), 'wrong'))->ofUser('42'));
    }

    public function testTheWriterKeepsTheGatewaysKeys(): void
    {
        $listener = new PresenceListener(new RedisPresenceWriter($this->redis), now: static fn (): int => 1700000007);
        $listener->onConnected($this->event('connected'));

        self::assertSame(['presence:conn:c1', 'presence:subject:room:7', 'presence:subject:user:42', 'presence:user:42'], $this->keys());
        self::assertSame(
            ['connection_id', 'c1', 'user_id', '42', 'subjects', '["user:42","room:7"]', 'connected_at', '1700000000', 'last_seen_at', '1700000007'],
            $this->redis->call('HGETALL', 'presence:conn:c1'),
        );
        foreach ($this->keys() as $key) {
            self::assertEqualsWithDelta(3600, $this->redis->call('TTL', $key), 5, $key);
        }
        $found = iterator_to_array((new RedisPresenceStore($this->redis))->ofUser('42'), false);
        self::assertEquals([new Connection('c1', '42', ['user:42', 'room:7'], 1700000000, 1700000007)], $found);

        $listener->onDisconnected($this->event('disconnected'));
        self::assertSame([], $this->keys());
    }

    public function testAMessageRefreshesAndMakesWhole(): void
    {
        $writer = new RedisPresenceWriter($this->redis, 'p:', 60);
        (new PresenceListener($writer, now: static fn (): int => 1700000001))->onConnected($this->event('connected'));
        $this->redis->call('EXPIRE', 'p:conn:c1', 5);
        $this->redis->call('DEL', 'p:user:42');

        (new PresenceListener($writer, false, now: static fn (): int => 1700000002))->onMessage($this->event('message_received'));
        self::assertSame(0, $this->redis->call('EXISTS', 'p:user:42'), 'Not where it is switched off.');
        (new PresenceListener($writer, now: static fn (): int => 1700000002))->onMessage($this->event('message_received'));

        self::assertSame(['c1'], $this->redis->call('SMEMBERS', 'p:user:42'));
        self::assertSame('1700000002', $this->redis->call('HGET', 'p:conn:c1', 'last_seen_at'));
        self::assertGreaterThan(50, $this->redis->call('TTL', 'p:conn:c1'));
    }

    public function testAReplayBringsNobodyBack(): void
    {
        $listener = new PresenceListener(new RedisPresenceWriter($this->redis));
        $listener->onConnected($this->event('connected', true));
        $listener->onMessage($this->event('message_received', true));

        self::assertSame([], $this->keys());
    }

    public function testWithoutATtlNothingExpires(): void
    {
        $listener = new PresenceListener(new RedisPresenceWriter($this->redis, ttlSeconds: 0));
        $listener->onConnected($this->event('connected'));

        foreach ($this->keys() as $key) {
            self::assertSame(-1, $this->redis->call('TTL', $key), $key);
        }
    }

    public function testExpiredMembersDoNotStay(): void
    {
        $writer = new RedisPresenceWriter($this->redis);
        // Sets that many have left without a word, while somebody stayed.
        $dead = array_map(static fn (int $i): string => 'dead' . $i, range(1, 40));
        $this->redis->call('SADD', 'presence:user:42', ...$dead);
        $this->redis->call('SADD', 'presence:subject:user:42', ...$dead);
        for ($i = 0; $i < 60; ++$i) {
            $writer->write(new Connection('c' . ($i % 3), '42', ['user:42'], 1, 1));
        }
        self::assertLessThan(10, $this->redis->call('SCARD', 'presence:user:42'), 'Writes remove them.');

        $this->redis->call('SADD', 'presence:user:42', ...$dead);
        self::assertCount(3, iterator_to_array((new RedisPresenceStore($this->redis))->ofUser('42'), false));
        self::assertSame(3, $this->redis->call('SCARD', 'presence:user:42'), 'Reading removes them.');
    }

    public function testARedisThatIsAwayDoesNotStopEvents(): void
    {
        $away = RedisClientFactory::create('redis://127.0.0.1:' . Server::port(), 'presence.redis.dsn', 0.5);
        (new PresenceListener(new RedisPresenceWriter($away)))->onConnected($this->event('connected'));

        $this->expectException(PresenceException::class);
        iterator_to_array((new RedisPresenceStore($away))->ofUser('42'));
    }

    /**
     * @return ($type is 'connected' ? WebsocketConnectionEstablishedEvent : ($type is 'disconnected' ? WebsocketConnectionClosedEvent : WebsocketMessageReceivedEvent))
     */
    private function event(string $type, bool $replayed = false): object
    {
        $event = [
            'type' => $type, 'connection_id' => 'c1', 'user_id' => '42', 'subjects' => ['user:42', 'room:7'],
            'connected_at' => 1700000000, 'event_id' => 'e1', 'seq' => 1,
        ] + match ($type) {
            'disconnected' => ['close_code' => 1000, 'reason' => ''],
            'message_received' => ['message' => ['type' => 'chat'], 'raw' => '{"type":"chat"}'],
            default => [],
        };

        return (new EventFactory())->fromJson(json_encode($event, \JSON_THROW_ON_ERROR), $replayed);
    }

    /**
     * @return list<string>
     */
    private function keys(): array
    {
        $keys = $this->redis->call('KEYS', '*');
        sort($keys);

        return $keys;
    }

    private function http(): HttpPresenceStore
    {
        return new HttpPresenceStore(null, $this->gateway->url(), Gateway::API_KEY);
    }

    private static function gateway(string $settings): Gateway
    {
        return new Gateway(
            "  stages: [ { auth: { jwt: { algorithm: HS256, public_key: \"" . self::SECRET . "\" } } }, { ping_filter: {} }, { fan_out: { events_mode: none } } ]\n" . $settings,
        );
    }

    /**
     * @param list<string> $subjects
     */
    private static function token(string $user, array $subjects = []): string
    {
        return (new TokenFactory('HS256', self::SECRET))->forUser($user, $subjects)->value;
    }
}
