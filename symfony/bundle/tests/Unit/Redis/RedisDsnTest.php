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

        self::assertSame($expected, [$parsed->tls, $parsed->nodes[0][0], $parsed->nodes[0][1], $parsed->user, $parsed->password, $parsed->database]);
        self::assertSame([1, null, false], [\count($parsed->nodes), $parsed->master, $parsed->isCluster]);
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
     *
     * @param array{bool, list<array{string, int}>, ?string, ?string, ?string, ?string, bool} $expected
     */
    #[DataProvider('several')]
    public function testSentinelsAndClusters(string $dsn, string $address, array $expected): void
    {
        $parsed = RedisDsn::parse($dsn, 'x');

        self::assertSame($address, $parsed->address());
        self::assertSame($expected, [$parsed->tls, $parsed->password, $parsed->master, $parsed->sentinelUser, $parsed->sentinelPassword, $parsed->database, $parsed->isCluster]);
    }

    /**
     * @return iterable<string, array{string, string, array{bool, ?string, ?string, ?string, ?string, int, bool}}>
     */
    public static function several(): iterable
    {
        yield 'Sentinels as the gateway has them' => [
            'redis://p%40ss@h1,h2:7/2?sentinel_master=main&sentinel_username=s&sentinel_password=p%26w',
            'h1:26379, h2:7',
            [false, 'p@ss', 'main', 's', 'p&w', 2, false],
        ];
        yield 'Sentinels as Symfony has them' => [
            'redis:p@?host[h1.example:26379]&host[[::1]:7]&redis_sentinel=main&dbindex=3',
            'h1.example:26379, [::1]:7',
            [false, 'p', 'main', null, null, 3, false],
        ];
        yield 'a cluster as the gateway has it' => ['redis://u:p@h1:7000,h2?cluster=1', 'h1:7000, h2:6379', [false, 'p', null, null, null, 0, true]];
        yield 'a cluster as Symfony has it' => ['rediss:?host[h1:7000]&host[h2]&redis_cluster=true&auth=p', 'h1:7000, h2:6379', [true, 'p', null, null, null, 0, true]];
    }

    public function testCertificates(): void
    {
        $expected = ['cafile' => '/ca.pem', 'local_cert' => '/cert.pem', 'local_pk' => '/key.pem'];
        self::assertSame($expected, RedisDsn::parse('rediss://h?cacert=/ca.pem&cert=/cert.pem&key=/key.pem', 'x')->tlsOptions);
        self::assertEquals(['verify_peer' => false, 'verify_peer_name' => false], RedisDsn::parse('rediss://h?verify=0', 'x')->tlsOptions);
        self::assertSame(['cafile' => '/ca.pem', 'verify_peer' => false], RedisDsn::parse('rediss://h?ssl[cafile]=/ca.pem&ssl[verify_peer]=0', 'x')->tlsOptions);
        self::assertSame($expected, RedisDsn::parse('rediss://h?sentinel_master=m&cacert=/ca.pem&cert=/cert.pem&key=/key.pem', 'x')->at('i', 1)->tlsOptions);
    }

    /**
     * @dataProvider contradictions
     */
    #[DataProvider('contradictions')]
    public function testContradictionsAreSaid(string $dsn, string $reason): void
    {
        $this->expectException(InvalidSettingException::class);
        $this->expectExceptionMessage($reason);
        RedisDsn::parse($dsn, 'transport.x.dsn');
    }

    /**
     * @return iterable<array{string, string}>
     */
    public static function contradictions(): iterable
    {
        yield ['redis://h1,h2', 'names several hosts'];
        yield ['redis://h1?sentinel_master=m&cluster=1', 'for Sentinels and for a cluster'];
        yield ['redis://h1/2?cluster=1', 'a cluster has no other than 0'];
        yield ['unix:///run/redis.sock?cluster=1', 'names a socket'];
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
        yield 'a host within a host' => ['redis://h1,hun/ter2:hunter2@x,'];
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
