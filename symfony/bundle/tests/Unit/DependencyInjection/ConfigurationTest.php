<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\DependencyInjection;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\DependencyInjection\Configuration;
use Symfony\Component\Config\Definition\ArrayNode;
use Symfony\Component\Config\Definition\Dumper\YamlReferenceDumper;
use Symfony\Component\Config\Definition\Exception\InvalidConfigurationException;
use Symfony\Component\Config\Definition\NodeInterface;
use Symfony\Component\Config\Definition\Processor;

final class ConfigurationTest extends TestCase
{
    private const TERMINATOR = [
        'transport' => ['http' => ['base_url' => 'http://gateway:8000', 'api_key' => 'hunter2-key']],
        'events' => ['webhook' => ['secret' => 'hunter2-secret']],
    ];

    public function testItsDefaultsAreThoseOfTheGateway(): void
    {
        $config = self::process(self::TERMINATOR);

        self::assertSame('terminator', $config['mode']);
        self::assertSame('user:', $config['subjects']['user_prefix']);
        self::assertSame('/internal/publish', $config['transport']['http']['publish_path']);
        self::assertSame('ws.outbox', $config['transport']['redis_stream']['stream']);
        self::assertSame(['ws.outbox', 'ws.outbox'], [$config['transport']['rabbitmq']['exchange'], $config['transport']['rabbitmq']['routing_key']]);
        self::assertSame(['ws.events', 'ws.inbox'], [$config['events']['redis_stream']['stream'], $config['events']['redis_stream']['inbox_stream']]);
        self::assertSame('presence:', $config['presence']['redis']['prefix']);
        self::assertSame(['trace_id', 'traceparent'], [$config['tracing']['trace_id_field'], $config['tracing']['traceparent_field']]);
    }

    /**
     * @dataProvider contradictions
     *
     * @param array<string, mixed> $config
     * @param list<string>         $parts
     */
    #[DataProvider('contradictions')]
    public function testContradictionsAreNamedByTheirPaths(array $config, array $parts): void
    {
        try {
            self::process($config);
        } catch (InvalidConfigurationException $exception) {
            foreach ($parts as $part) {
                self::assertStringContainsString($part, $exception->getMessage());
            }
            self::assertStringNotContainsString('hunter2', $exception->getMessage());

            return;
        }
        self::fail('It was accepted.');
    }

    /**
     * @return iterable<string, array{array<string, mixed>, list<string>}>
     */
    public static function contradictions(): iterable
    {
        yield 'nothing set, all problems at once' => [[], ['"snoke_ws.transport.http.base_url" is empty', '"snoke_ws.transport.http.api_key" is empty', '"snoke_ws.events.webhook.secret" is empty', 'allow_unsigned']];
        yield 'no such mode' => [['mode' => 'banana'] + self::TERMINATOR, ['"snoke_ws.mode" is "banana", and must be one of "terminator", "core"']];
        yield 'no such type' => [['transport' => ['type' => 'pigeon']], ['"snoke_ws.transport.type" is "pigeon", and must be one of "http", "redis_stream", "rabbitmq"']];
        yield 'RabbitMQ without DSN' => [['transport' => ['type' => 'rabbitmq']], ['"snoke_ws.transport.rabbitmq.dsn" is empty', 'amqp://guest']];
        yield 'core without Redis' => [['mode' => 'core'], ['"snoke_ws.transport.redis_stream.dsn" is empty', '"snoke_ws.presence.redis.dsn" is empty', '"snoke_ws.events.redis_stream.dsn" is empty']];
        yield 'DSN of something else' => [['transport' => ['type' => 'redis_stream', 'redis_stream' => ['dsn' => 'amqp://hunter2@host']]], ['"snoke_ws.transport.redis_stream.dsn" must begin with "redis:"']];
        yield 'base URL without scheme' => [['transport' => ['http' => ['base_url' => 'hunter2:8000']]], ['"snoke_ws.transport.http.base_url" must be a URL']];
        yield 'endless timeout' => [['transport' => ['http' => ['timeout_seconds' => 0]]], ['"snoke_ws.transport.http.timeout_seconds" is 0, and must be from 0.01 to 300']];
        yield 'two keys' => [['token' => ['key' => 'hunter2', 'key_file' => '/x']] + self::TERMINATOR, ['"snoke_ws.token.key" and "snoke_ws.token.key_file" are both set']];
        yield 'weak secret' => [['token' => ['algorithm' => 'HS256', 'key' => 'hunter2']] + self::TERMINATOR, ['shorter than the 32 bytes']];
        yield 'reserved claim' => [['token' => ['claims' => ['exp' => 1]]] + self::TERMINATOR, ['"snoke_ws.token.claims" has "exp"']];
        yield 'cookie for other sites without TLS' => [['token' => ['cookie' => ['same_site' => 'none', 'secure' => false]]] + self::TERMINATOR, ['"snoke_ws.token.cookie.same_site" is "none"']];
        yield 'presence by HTTP from nowhere' => [['mode' => 'core', 'presence' => ['type' => 'http'], 'transport' => ['redis_stream' => ['dsn' => 'redis://redis']]], ['"snoke_ws.presence.http.base_url" is empty', '"snoke_ws.presence.http.api_key" is empty']];
        yield 'writer without Redis' => [['presence' => ['writer' => ['type' => 'redis']]] + self::TERMINATOR, ['"snoke_ws.presence.redis.dsn" is empty']];
        yield 'collector unknown' => [['tracing' => ['enabled' => true, 'exporter' => 'otlp']] + self::TERMINATOR, ['"snoke_ws.tracing.endpoint" is empty']];
        yield 'unknown key' => [['transport' => ['htpp' => []]], ['Unrecognized option "htpp" under "snoke_ws.transport"']];
    }

    public function testACoreApplicationNeedsOneDsn(): void
    {
        $config = self::process(['mode' => 'core', 'transport' => ['redis_stream' => ['dsn' => 'redis://redis:6379']]]);

        self::assertSame(['redis_stream', 'redis', 'redis_stream'], [$config['transport']['type'], $config['presence']['type'], $config['events']['type']]);
        self::assertSame('redis://redis:6379', $config['events']['redis_stream']['dsn']);
        self::assertSame('redis://redis:6379', $config['presence']['redis']['dsn']);
    }

    public function testAModeFromTheEnvironmentDecidesLater(): void
    {
        $config = self::process(['mode' => '%env(WS_MODE)%']);

        self::assertNull($config['transport']['type']);
    }

    public function testUnsignedWebhooksMustBeAskedFor(): void
    {
        $config = self::process(['events' => ['webhook' => ['allow_unsigned' => true]]] + self::TERMINATOR);

        self::assertTrue($config['events']['webhook']['allow_unsigned']);
    }

    public function testItHasTheKeysThatTheGatewayCompares(): void
    {
        $rows = (string) file_get_contents(__DIR__ . '/../../../../../src/config/symfony/rows.rs');
        preg_match_all('/symfony: "([a-z_.]+)"/', $rows, $keys);
        self::assertGreaterThan(10, \count($keys[1]));
        foreach ([...$keys[1], 'transport.type', 'presence.type', 'events.type', 'events.webhook.enabled', 'tracing.enabled', 'transport.http.base_url'] as $key) {
            $node = (new Configuration())->getConfigTreeBuilder()->buildTree();
            foreach (explode('.', $key) as $name) {
                self::assertInstanceOf(ArrayNode::class, $node, $key);
                self::assertArrayHasKey($name, $node->getChildren(), $key);
                $node = $node->getChildren()[$name];
            }
        }
    }

    public function testEveryNodeIsExplained(): void
    {
        $tree = (new Configuration())->getConfigTreeBuilder()->buildTree();
        self::assertInstanceOf(ArrayNode::class, $tree);
        $count = 0;
        $visit = static function (NodeInterface $node) use (&$visit, &$count): void {
            ++$count;
            self::assertNotEmpty($node->getInfo(), $node->getPath());
            if (!$node instanceof ArrayNode || [] === $node->getChildren()) {
                // Anything else is an error of type since Symfony 6.
                self::assertTrue(\is_string($node->getExample()) || \is_array($node->getExample()), $node->getPath());
            } else {
                array_map($visit, $node->getChildren());
            }
        };
        array_map($visit, $tree->getChildren());

        self::assertGreaterThan(60, $count);
        self::assertStringContainsString('base_url:', (new YamlReferenceDumper())->dump(new Configuration()));
    }

    /**
     * @param array<string, mixed> $config
     *
     * @return array<string, mixed>
     */
    private static function process(array $config): array
    {
        return (new Processor())->processConfiguration(new Configuration(), [$config]);
    }
}
