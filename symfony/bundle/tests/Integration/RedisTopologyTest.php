<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Presence\Connection;
use Snoke\WsBundle\Presence\Store\RedisPresenceStore;
use Snoke\WsBundle\Presence\Writer\RedisPresenceWriter;
use Snoke\WsBundle\Publisher\Push;
use Snoke\WsBundle\Publisher\Transport\RedisStreamTransport;
use Snoke\WsBundle\Redis\RedisClientFactory;
use Snoke\WsBundle\Redis\RedisClientInterface;
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

    public function testACluster(): void
    {
        $node = $this->redis('--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1');
        $admin = RedisClientFactory::create($node->dsn(), 'x');
        $admin->call('CLUSTER', 'ADDSLOTSRANGE', 0, 16383);
        Server::wait('the cluster', static fn (): bool => str_contains($admin->call('CLUSTER', 'INFO'), 'cluster_state:ok'));

        $this->works(RedisClientFactory::create(sprintf('redis://127.0.0.1:%d?cluster=1', $node->port), 'x'));
    }

    public function testSentinels(): void
    {
        $master = $this->redis('--requirepass', 'hunter2@/');
        $port = Server::port();
        $directory = Server::directory();
        file_put_contents($directory . '/sentinel.conf', <<<CONF
            port {$port}
            bind 127.0.0.1
            sentinel monitor main 127.0.0.1 {$master->port} 1
            sentinel auth-pass main hunter2@/
            CONF);
        $this->servers[] = new Server(['redis-server', 'sentinel.conf', '--sentinel'], $directory);
        Server::wait('the Sentinel', static fn (): bool => Server::accepts($port));

        $this->works(RedisClientFactory::create(sprintf('redis://hunter2%%40%%2F@127.0.0.1:%d?sentinel_master=main', $port), 'x'));
        try {
            RedisClientFactory::create(sprintf('redis://hunter2wrong@127.0.0.1:%d?sentinel_master=main', $port), 'x')->call('PING');
            self::fail('The wrong password was accepted.');
        } catch (\Snoke\WsBundle\Exception\RedisException $exception) {
            self::assertStringNotContainsString('hunter2', (string) $exception);
        }
    }

    private function works(RedisClientInterface $redis): void
    {
        (new RedisStreamTransport($redis, 'ws.outbox', 10))->publish(Push::create(['a'], 1));
        self::assertSame(1, $redis->call('XLEN', 'ws.outbox'));
        $redis->call('XGROUP', 'CREATE', 'ws.outbox', 'g', '0');
        $read = $redis->call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', '1', 'STREAMS', 'ws.outbox', '>');
        self::assertSame(['data', '{"subjects":["a"],"payload":1}'], $read[0][1][0][1]);

        $writer = new RedisPresenceWriter($redis);
        $connection = new Connection('c1', '42', ['user:42', 'room:7'], 1, 2);
        $writer->write($connection);
        $store = new RedisPresenceStore($redis);
        self::assertEquals([$connection], iterator_to_array($store->ofSubject('room:7'), false));
        $writer->remove($connection);
        self::assertSame([], iterator_to_array($store->ofUser('42'), false));
    }

    private function redis(string ...$options): RedisServer
    {
        return $this->servers[] = new RedisServer($options);
    }
}
