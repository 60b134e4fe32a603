<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Redis;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Amqp\AmqpDsn;
use Snoke\WsBundle\Exception\InvalidSettingException;
use Snoke\WsBundle\Redis\RedisDsn;

final class RedisDsnTest extends TestCase
{
    /**
     * @dataProvider servers
     *
     * @param array{bool, string, int, ?string, ?string, int} $expected
     */
    #[DataProvider('servers')]
    public function testOneServer(string $dsn, array $expected): void
    {
        $parsed = RedisDsn::parse($dsn, 'x');

        self::assertSame($expected, [$parsed->tls, $parsed->host, $parsed->port, $parsed->user, $parsed->password, $parsed->database]);
        self::assertNull($parsed->composite);
    }

    /**
     * @return iterable<string, array{string, array{bool, string, int, ?string, ?string, int}}>
     */
    public static function servers(): iterable
    {
        yield 'short' => ['redis://redis', [false, 'redis', 6379, null, null, 0]];
        yield 'long' => ['rediss://me:p%40ss@redis:7000/3?timeout=1', [true, 'redis', 7000, 'me', 'p@ss', 3]];
        yield 'a password alone' => ['redis://p@ss@redis/', [false, 'redis', 6379, null, 'p@ss', 0]];
        yield 'no user' => ['redis://:pass@redis', [false, 'redis', 6379, null, 'pass', 0]];
        yield 'IPv6' => ['redis://[::1]:7000/1', [false, '[::1]', 7000, null, null, 1]];
        yield 'a socket' => ['unix:///run/redis.sock?database=2', [false, '/run/redis.sock', 0, null, null, 2]];
        yield 'a socket with a password' => ['unix://pass@/run/redis.sock', [false, '/run/redis.sock', 0, null, 'pass', 0]];
    }

    /**
     * @dataProvider several
     */
    #[DataProvider('several')]
    public function testSeveralServersAreLeftToSymfony(string $dsn, string $expected): void
    {
        $parsed = RedisDsn::parse($dsn, 'x');

        self::assertSame([$expected, 'several hosts'], [$parsed->composite, $parsed->address()]);
    }

    /**
     * @return iterable<string, array{string, string}>
     */
    public static function several(): iterable
    {
        yield 'Sentinels as the gateway has them' => ['redis://p%40ss@h1:26379,h2:26379/2?sentinel_master=main', 'redis:p%40ss@?host[h1:26379]&host[h2:26379]&redis_sentinel=main&dbindex=2'];
        yield 'a cluster as the gateway has it' => ['redis://h1:7000,h2:7001?cluster=1', 'redis:?host[h1:7000]&host[h2:7001]&redis_cluster=1'];
        yield 'Sentinels as Symfony has them' => ['redis:?host[h1:26379]&host[h2:26379]&redis_sentinel=main', 'redis:?host[h1:26379]&host[h2:26379]&redis_sentinel=main'];
        yield 'a cluster as Symfony has it' => ['rediss:?host[h1:7000]&host[h2]&redis_cluster=1', 'rediss:?host[h1:7000]&host[h2]&redis_cluster=1'];
    }

    /**
     * @dataProvider wrong
     */
    #[DataProvider('wrong')]
    public function testWhatIsWrongIsSaidWithoutThePassword(string $dsn): void
    {
        foreach ([RedisDsn::parse(...), AmqpDsn::parse(...)] as $parse) {
            try {
                $parse($dsn, 'transport.x.dsn');
                self::fail('It was accepted.');
            } catch (InvalidSettingException $exception) {
                self::assertStringStartsWith('"snoke_ws.transport.x.dsn" ', $exception->getMessage());
                self::assertStringNotContainsString('hunter2', $exception->getMessage());
            }
        }
    }

    /**
     * @return iterable<string, array{string}>
     */
    public static function wrong(): iterable
    {
        yield 'empty' => [''];
        yield 'another scheme' => ['http://hunter2@host'];
        yield 'no scheme' => ['hunter2@host:6379'];
        yield 'no host' => ['redis://hunter2@'];
        yield 'no port' => ['redis://hunter2@host:port'];
        yield 'no database' => ['redis://hunter2@host/hunter2'];
        yield 'no host of RabbitMQ' => ['amqp:///hunter2'];
    }

    public function testRabbitMq(): void
    {
        $parsed = AmqpDsn::parse('amqps://me:p%40ss@mq/%2fa?cacert=/ca.pem&verify=0', 'x');
        self::assertSame([true, 'mq', 5671, 'me', 'p@ss', '/a', '/ca.pem', false], [$parsed->tls, $parsed->host, $parsed->port, $parsed->user, $parsed->password, $parsed->vhost, $parsed->caFile, $parsed->verify]);
        $parsed = AmqpDsn::parse('amqp://mq', 'x');
        self::assertSame([false, 5672, 'guest', 'guest', '/', true], [$parsed->tls, $parsed->port, $parsed->user, $parsed->password, $parsed->vhost, $parsed->verify]);
    }
}
