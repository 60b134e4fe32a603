<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Predis\Client;
use Snoke\WsBundle\Consumer\Redis\RedisStreamSettings;
use Snoke\WsBundle\Consumer\Redis\RedisStreamSource;
use Snoke\WsBundle\Consumer\Shards;
use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Exception\RedisException;
use Snoke\WsBundle\Presence\Connection;
use Snoke\WsBundle\Presence\Store\RedisPresenceStore;
use Snoke\WsBundle\Presence\Writer\RedisPresenceWriter;
use Snoke\WsBundle\Publisher\Push;
use Snoke\WsBundle\Publisher\Transport\RedisStreamTransport;
use Snoke\WsBundle\Redis\PhpRedisClient;
use Snoke\WsBundle\Redis\PredisClient;
use Snoke\WsBundle\Redis\RedisClientInterface;
use Snoke\WsBundle\Redis\RedisDsn;
use Snoke\WsBundle\Tests\Support\Certificates;
use Snoke\WsBundle\Tests\Support\RedisServer;
use Snoke\WsBundle\Tests\Support\Server;

/**
 * Redis behind Sentinels, in a cluster, with a password, by the DSNs that the gateway takes.
 */
final class RedisTopologyTest extends TestCase
{
    /** @var list<RedisServer|Server> */
    private array $servers = [];

    protected function tearDown(): void
    {
        foreach ($this->servers as $server) {
            $server->remove();
        }
    }

    /**
     * @dataProvider libraries
     *
     * @param class-string<PhpRedisClient|PredisClient> $library
     */
    #[DataProvider('libraries')]
    public function testACluster(string $library, bool $tls): void
    {
        $certificates = $tls ? Certificates::ofAddress() : null;
        $query = null === $certificates ? '' : 'cacert=' . $certificates->authority;
        $nodes = [];
        foreach (['0 8191', '8192 16383'] as $slots) {
            $node = new RedisServer([
                '--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1', '--cluster-port', (string) Server::port(),
                '--user', 'wsgw', 'on', '>hunter2@/', '~*', '+@all',
            ], $certificates);
            $this->servers[] = $nodes[] = $node;
            self::client($library, $node->dsn() . '?' . $query)->call('CLUSTER', 'ADDSLOTSRANGE', ...array_map(intval(...), explode(' ', $slots)));
        }
        $bus = (string) self::client($library, $nodes[1]->dsn() . '?' . $query)->call('CLUSTER', 'NODES');
        preg_match('/:(\d+)@(\d+)/', $bus, $found);
        self::client($library, $nodes[0]->dsn() . '?' . $query)->call('CLUSTER', 'MEET', '127.0.0.1', $found[1], $found[2]);
        foreach ($nodes as $node) {
            $admin = self::client($library, $node->dsn() . '?' . $query);
            Server::wait('the cluster', static fn (): bool => str_contains($admin->call('CLUSTER', 'INFO'), 'cluster_state:ok'));
        }

        // The streams of both halves, though one node is named only.
        $redis = self::client($library, $nodes[0]->dsn('wsgw:hunter2%40%2F@') . '?cluster=1&' . $query);
        $this->works($redis, '{a}');
        $this->works($redis, '{b}');
        $this->works($redis, '{c}');
        $source = new RedisStreamSource($redis, new RedisStreamSettings(['{a}ws.inbox', '{a}ws.inbox.*'], 'g', 'one', deadLetterStream: '{a}ws.dlq'));
        self::assertNull($source->next(0.1));
        foreach (['{a}ws.inbox', '{a}ws.inbox.room:1', '{a}ws.inbox.room:2'] as $stream) {
            $redis->call('XADD', $stream, '*', 'data', '{}');
        }
        $source->close();
        for ($n = 0; $n < 3; ++$n) {
            $entry = $source->next(2.0);
            self::assertNotNull($entry, 'partitions are found on their node');
            0 === $n ? $source->deadLetter($entry, 'no event') : $source->done($entry);
        }
        $source->close();
        self::assertSame([1, 0], [$redis->call('XLEN', '{a}ws.dlq'), $redis->call('XLEN', '{a}ws.inbox.room:2')]);
        $this->readsShards($redis, $nodes, $library, $query);
        try {
            self::client($library, $nodes[0]->dsn('wsgw:hunter2wrong@') . '?cluster=1&' . $query)->call('XLEN', 'a');
            self::fail('The wrong password was accepted.');
        } catch (RedisException $exception) {
            self::assertStringNotContainsString('hunter2', (string) $exception);
        }
    }

    /**
     * Shards lie in many hash slots: no command reads them all.
     *
     * @param list<RedisServer>                         $nodes
     * @param class-string<PhpRedisClient|PredisClient> $library
     */
    private function readsShards(RedisClientInterface $redis, array $nodes, string $library, string $query): void
    {
        $streams = ['ws.events', ...Shards::names('ws.inbox', Shards::all(16))];
        $settings = new RedisStreamSettings($streams, 'g', 'one', deadLetterStream: 'letters');
        $source = new RedisStreamSource($redis, $settings);
        self::assertNull($source->next(0.1));
        $source->keepAlive();
        $sent = [];
        for ($n = 0; $n < 60; ++$n) {
            $sent[$stream = $streams[$n % 17]][] = (string) $n;
            $redis->call('XADD', $stream, '*', 'data', (string) $n);
        }
        $used = 0;
        foreach ($nodes as $node) {
            $keys = self::client($library, $node->dsn() . '?' . $query)->call('KEYS', 'ws.inbox.*');
            $used += \is_array($keys) && [] !== $keys ? 1 : 0;
        }
        self::assertSame(\count($nodes), $used, 'they lie on all nodes');
        $got = [];
        for ($n = 0; $n < 60; ++$n) {
            // Half of it by another worker, which takes over what this one has not come to.
            if (30 === $n) {
                $source->close();
                $source = new RedisStreamSource($redis, new RedisStreamSettings($streams, 'g', 'two', deadLetterStream: 'letters'));
            }
            $entry = $source->next(5.0);
            self::assertNotNull($entry);
            $got[$entry->from][] = $entry->raw;
            0 === $n % 20 ? $source->deadLetter($entry, 'no event') : $source->done($entry);
        }
        self::assertNull($source->next(0.2));
        $source->close();
        ksort($sent);
        ksort($got);
        self::assertSame($sent, $got);
        self::assertSame(3, $redis->call('XLEN', 'letters'));
        foreach ($streams as $stream) {
            self::assertSame(0, $redis->call('XLEN', $stream), $stream);
        }
    }

    /**
     * @dataProvider libraries
     *
     * @param class-string<PhpRedisClient|PredisClient> $library
     */
    #[DataProvider('libraries')]
    public function testSentinels(string $library, bool $tls): void
    {
        $certificates = $tls ? Certificates::ofAddress() : null;
        $users = ['--requirepass', 'hunter2@/', '--masterauth', 'hunter2@/', '--user', 'wsgw', 'on', '>hunter3@/', '~*', '+@all'];
        $master = $this->servers[] = new RedisServer($users, $certificates);
        $replica = $this->servers[] = new RedisServer([...$users, '--replicaof', '127.0.0.1', (string) $master->port], $certificates);
        $port = Server::port();
        $directory = Server::directory();
        $conf = "bind 127.0.0.1\n";
        foreach (array_chunk($certificates?->forRedis($port) ?? ['--port', (string) $port], 2) as [$name, $value]) {
            $conf .= ltrim($name, '-') . " $value\n";
        }
        file_put_contents($directory . '/sentinel.conf', $conf . ($tls ? "port 0\n" : '') . <<<CONF
            requirepass hunter4@/
            sentinel monitor main 127.0.0.1 {$master->port} 1
            sentinel auth-pass main hunter2@/
            sentinel down-after-milliseconds main 1000
            sentinel failover-timeout main 5000

            CONF);
        $this->servers[] = new Server(['redis-server', 'sentinel.conf', '--sentinel'], $directory);
        Server::wait('the Sentinel', static fn (): bool => Server::accepts($port));

        $scheme = $tls ? 'rediss' : 'redis';
        // The first one is away.
        $hosts = sprintf('127.0.0.1:%d,127.0.0.1:%d', Server::port(), $port);
        $query = '/1?sentinel_master=main&sentinel_password=hunter4%40%2F' . (null === $certificates ? '' : '&cacert=' . $certificates->authority);
        $redis = self::client($library, "$scheme://wsgw:hunter3%40%2F@$hosts$query");
        $this->works($redis, '');
        self::assertSame('wsgw', $redis->call('ACL', 'WHOAMI'));
        foreach ([["wsgw:hunter3wrong@$hosts", $query], ["wsgw:hunter3%40%2F@$hosts", str_replace('hunter4', 'hunter4wrong', $query)], ["wsgw:hunter3%40%2F@$hosts", str_replace('main', 'other', $query)]] as [$wrong, $with]) {
            try {
                self::client($library, "$scheme://$wrong$with")->call('PING');
                self::fail('It was accepted.');
            } catch (RedisException $exception) {
                self::assertStringNotContainsString('hunter', (string) $exception);
                self::assertStringContainsString($hosts, str_replace(', ', ',', $exception->getMessage()));
            }
        }

        $sentinel = self::client($library, sprintf('%s://:hunter4%%40%%2F@127.0.0.1:%d', $scheme, $port) . (null === $certificates ? '' : '?cacert=' . $certificates->authority));
        Server::wait('the replica', static fn (): bool => [] !== $sentinel->call('SENTINEL', 'REPLICAS', 'main'));
        $master->stop(\SIGKILL);
        Server::wait('the failover', static fn (): bool => [(string) $replica->port] === array_slice((array) $sentinel->call('SENTINEL', 'get-master-addr-by-name', 'main'), 1));
        Server::wait('pushes again', static function () use ($redis): bool {
            try {
                (new RedisStreamTransport($redis, 'after', 10))->publish(Push::create(['a'], 1));

                return true;
            } catch (PublishException) {
                return false;
            }
        });
        self::assertSame(1, $redis->call('XLEN', 'after'));
    }

    /**
     * @return iterable<string, array{class-string<PhpRedisClient|PredisClient>, bool}>
     */
    public static function libraries(): iterable
    {
        yield 'ext-redis' => [PhpRedisClient::class, false];
        yield 'ext-redis, TLS' => [PhpRedisClient::class, true];
        yield 'Predis' => [PredisClient::class, false];
        if (version_compare(Client::VERSION, '2.0.0', '>=')) {
            yield 'Predis, TLS' => [PredisClient::class, true];
        }
    }

    /**
     * @param class-string<PhpRedisClient|PredisClient> $library
     */
    private static function client(string $library, string $dsn): RedisClientInterface
    {
        $parsed = RedisDsn::parse($dsn, 'x');

        return new $library(static fn (): object => $library::connect($parsed, 2.0, 2.0), $parsed->address(), 2.0);
    }

    private function works(RedisClientInterface $redis, string $tag): void
    {
        (new RedisStreamTransport($redis, $tag . 'ws.outbox', 10))->publish(Push::create(['a'], 1));
        self::assertSame(1, $redis->call('XLEN', $tag . 'ws.outbox'));
        $redis->call('XGROUP', 'CREATE', $tag . 'ws.outbox', 'g', '0');
        $read = $redis->call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', '1', 'STREAMS', $tag . 'ws.outbox', '>');
        self::assertSame(['data', '{"subjects":["a"],"payload":1}'], $read[0][1][0][1]);

        $writer = new RedisPresenceWriter($redis);
        $connection = new Connection('c1', '42', ['user:42', 'room:7'], 1, 2);
        $writer->write($connection);
        $store = new RedisPresenceStore($redis);
        self::assertEquals([$connection], iterator_to_array($store->ofSubject('room:7'), false));
        $writer->remove($connection);
        self::assertSame([], iterator_to_array($store->ofUser('42'), false));
    }
}
