<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\DependencyInjection;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\DataCollector\WsDataCollector;
use Snoke\WsBundle\Exception\InvalidSettingException;
use Snoke\WsBundle\Messenger\WsPush;
use Snoke\WsBundle\Presence\PresenceProviderInterface;
use Snoke\WsBundle\Publisher\Transport\HttpTransport;
use Snoke\WsBundle\Publisher\Transport\RabbitMqTransport;
use Snoke\WsBundle\Publisher\Transport\RedisStreamTransport;
use Snoke\WsBundle\Publisher\Transport\TransportInterface;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;
use Snoke\WsBundle\Test\InMemoryPresence;
use Snoke\WsBundle\Test\InMemoryTransport;
use Snoke\WsBundle\Tests\App\TestKernel;
use Snoke\WsBundle\Token\CookieFactory;
use Snoke\WsBundle\Token\TokenFactoryInterface;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;
use Symfony\Component\Messenger\MessageBusInterface;

final class ContainerTest extends TestCase
{
    private const IN_MEMORY = [
        'transport' => ['type' => 'in_memory'],
        'presence' => ['type' => 'in_memory'],
        'events' => ['type' => 'none'],
        'public_url' => 'wss://app.example/socket',
    ];

    private const FROM_ENV = [
        'mode' => '%env(WS_MODE)%',
        'transport' => [
            'type' => '%env(WS_TRANSPORT_TYPE)%',
            'http' => [
                'base_url' => '%env(WS_GATEWAY_BASE_URL)%',
                'api_key' => '%env(WS_GATEWAY_API_KEY)%',
                'timeout_seconds' => '%env(float:WS_TIMEOUT)%',
                'retries' => '%env(int:WS_RETRIES)%',
            ],
            'redis_stream' => ['dsn' => '%env(WS_REDIS_DSN)%', 'stream' => '%env(WS_REDIS_STREAM)%'],
            'rabbitmq' => ['dsn' => '%env(string:default::WS_RABBITMQ_DSN)%'],
        ],
        'presence' => [
            'type' => '%env(WS_PRESENCE_TYPE)%',
            'interpretation' => ['strategy' => '%env(WS_PRESENCE_INTERPRETATION_STRATEGY)%', 'ttl_seconds' => '%env(int:WS_PRESENCE_TTL_SECONDS)%', 'use_last_seen' => '%env(bool:WS_PRESENCE_USE_LAST_SEEN)%'],
            'writer' => ['type' => '%env(WS_PRESENCE_WRITER_TYPE)%'],
        ],
        'events' => ['type' => '%env(WS_EVENTS_TYPE)%', 'webhook' => ['secret' => '%env(SYMFONY_WEBHOOK_SECRET)%']],
        'tracing' => ['enabled' => '%env(bool:WS_TRACING_ENABLED)%', 'exporter' => '%env(WS_TRACING_EXPORTER)%'],
        'token' => ['algorithm' => '%env(WS_TOKEN_ALGORITHM)%', 'key' => '%env(WS_TOKEN_KEY)%'],
        'public_url' => '%env(WS_PUBLIC_URL)%',
    ];

    private const ENV = [
        'WS_MODE' => 'terminator', 'WS_TRANSPORT_TYPE' => '', 'WS_GATEWAY_BASE_URL' => 'http://gateway:8000', 'WS_GATEWAY_API_KEY' => 'key',
        'WS_TIMEOUT' => '1.5', 'WS_RETRIES' => '0', 'WS_REDIS_DSN' => 'redis://localhost:1', 'WS_REDIS_STREAM' => 'ws.outbox',
        'WS_RABBITMQ_DSN' => 'amqp://localhost:1', 'WS_PRESENCE_TYPE' => '', 'WS_PRESENCE_INTERPRETATION_STRATEGY' => 'ttl',
        'WS_PRESENCE_TTL_SECONDS' => '60', 'WS_PRESENCE_USE_LAST_SEEN' => '1', 'WS_PRESENCE_WRITER_TYPE' => 'none', 'WS_EVENTS_TYPE' => '',
        'SYMFONY_WEBHOOK_SECRET' => 'secret', 'WS_TRACING_ENABLED' => '0', 'WS_TRACING_EXPORTER' => 'none', 'WS_TOKEN_ALGORITHM' => 'HS256',
        'WS_TOKEN_KEY' => '0123456789abcdef0123456789abcdef', 'WS_PUBLIC_URL' => 'ws://localhost:8000/ws',
    ];

    private ?TestKernel $kernel = null;

    protected function tearDown(): void
    {
        foreach (array_keys(self::ENV) as $name) {
            unset($_ENV[$name]);
        }
        $this->kernel?->remove();
        // The kernel's error handler outlives it.
        restore_exception_handler();
    }

    public function testServicesAreFoundByTheirInterfaces(): void
    {
        $container = $this->boot(self::IN_MEMORY + ['token' => ['algorithm' => 'HS256', 'key' => str_repeat('k', 32)]], [
            WebsocketPublisherInterface::class, TokenFactoryInterface::class, PresenceProviderInterface::class, CookieFactory::class,
        ]);

        $container->get(WebsocketPublisherInterface::class)->toUser('42', ['n' => 1.0]);
        $pushes = $container->get(InMemoryTransport::class)->pushes();
        self::assertSame([['user:42'], ['n' => 1.0]], [$pushes[0]->subjects, $pushes[0]->payload]);

        $container->get(InMemoryPresence::class)->connect('42');
        self::assertTrue($container->get(PresenceProviderInterface::class)->isOnline('42'));
        self::assertFalse($container->get(PresenceProviderInterface::class)->isOnline('7'));

        $cookie = $container->get(CookieFactory::class)->create($container->get(TokenFactoryInterface::class)->forUser('42'));
        self::assertSame(['/socket', true, true, 'strict'], [$cookie->getPath(), $cookie->isSecure(), $cookie->isHttpOnly(), $cookie->getSameSite()]);
    }

    public function testMessagesOfMessengerArePushed(): void
    {
        $container = $this->boot(self::IN_MEMORY, ['messenger.default_bus']);

        $container->get('messenger.default_bus')->dispatch(new WsPush(['room:7'], 'hello'));

        self::assertInstanceOf(MessageBusInterface::class, $container->get('messenger.default_bus'));
        self::assertSame('hello', $container->get(InMemoryTransport::class)->pushes()[0]->payload);
    }

    public function testTemplatesHaveItsFunctions(): void
    {
        $container = $this->boot(self::IN_MEMORY + ['token' => ['algorithm' => 'HS256', 'key' => str_repeat('k', 32)]], ['twig']);

        $html = $container->get('twig')->createTemplate('{{ ws_url() }}|{{ ws_token() }}|{{ ws_token({user: 42}) }}')->render();

        self::assertMatchesRegularExpression('~^wss://app\.example/socket\|\|[\w-]+\.[\w-]+\.[\w-]+$~', $html);
    }

    public function testEveryValueMayComeFromTheEnvironment(): void
    {
        $container = $this->boot(self::FROM_ENV, [TransportInterface::class, PresenceProviderInterface::class, TokenFactoryInterface::class], self::ENV);

        self::assertInstanceOf(HttpTransport::class, $container->get(TransportInterface::class));
        self::assertInstanceOf(PresenceProviderInterface::class, $container->get(PresenceProviderInterface::class));
        self::assertNotSame('', $container->get(TokenFactoryInterface::class)->forUser('42')->value);
    }

    /**
     * @dataProvider transports
     *
     * @param array<string, string> $env
     * @param class-string          $class
     */
    #[DataProvider('transports')]
    public function testTheTransportIsChosenAtRunTime(array $env, string $class): void
    {
        $container = $this->boot(self::FROM_ENV, [TransportInterface::class], $env + self::ENV);

        self::assertInstanceOf($class, $container->get(TransportInterface::class));
    }

    /**
     * @return iterable<string, array{array<string, string>, class-string}>
     */
    public static function transports(): iterable
    {
        yield 'what core implies' => [['WS_MODE' => 'core'], RedisStreamTransport::class];
        yield 'another than core implies' => [['WS_MODE' => 'core', 'WS_TRANSPORT_TYPE' => 'rabbitmq'], RabbitMqTransport::class];
        yield 'in memory' => [['WS_TRANSPORT_TYPE' => 'in_memory'], InMemoryTransport::class];
    }

    /**
     * @dataProvider wrongVariables
     *
     * @param array<string, string> $env
     */
    #[DataProvider('wrongVariables')]
    public function testWrongVariablesAreNamedByTheirSettings(array $env, string $message): void
    {
        $container = $this->boot(self::FROM_ENV, [TransportInterface::class], $env + self::ENV);

        $this->expectException(InvalidSettingException::class);
        $this->expectExceptionMessage($message);
        $container->get(TransportInterface::class);
    }

    /**
     * @return iterable<string, array{array<string, string>, string}>
     */
    public static function wrongVariables(): iterable
    {
        yield 'mode' => [['WS_MODE' => 'banana'], '"snoke_ws.mode" is "banana", and must be one of "terminator", "core"'];
        yield 'type' => [['WS_TRANSPORT_TYPE' => 'banana'], '"snoke_ws.transport.type" is "banana"'];
        yield 'DSN' => [['WS_MODE' => 'core', 'WS_REDIS_DSN' => ''], '"snoke_ws.transport.redis_stream.dsn" is empty'];
        yield 'number' => [['WS_RETRIES' => '99'], '"snoke_ws.transport.http.retries" is 99, and must be from 0 to 10'];
        yield 'key' => [['WS_GATEWAY_API_KEY' => ''], '"snoke_ws.transport.http.api_key" is empty'];
    }

    public function testTheProfilerShowsPushesWithoutPayloadsOutsideDev(): void
    {
        $container = $this->boot(self::IN_MEMORY, [WebsocketPublisherInterface::class, 'snoke_ws.profiler.collector']);
        $container->get(WebsocketPublisherInterface::class)->send(['room:7', 'room:8'], ['text' => 'hunter2']);

        $collector = $container->get('snoke_ws.profiler.collector');
        self::assertInstanceOf(WsDataCollector::class, $collector);
        $collector->collect(new Request(), new Response());

        self::assertSame([1, 0, 'room:7, room:8', 18], [$collector->getPushCount(), $collector->getFailedCount(), $collector->getPushes()[0]['to'], $collector->getPushes()[0]['bytes']]);
        self::assertStringNotContainsString('hunter2', serialize($collector));
    }

    public function testTheProfilersPanelRenders(): void
    {
        $container = $this->boot(self::IN_MEMORY, [WebsocketPublisherInterface::class, 'snoke_ws.profiler.collector', 'twig'], [], 'dev');
        $container->get(WebsocketPublisherInterface::class)->send(['room:7'], ['text' => '<script>']);
        try {
            $container->get(WebsocketPublisherInterface::class)->send([], 1);
            self::fail('A push to nobody was accepted.');
        } catch (\InvalidArgumentException) {
        }
        $collector = $container->get('snoke_ws.profiler.collector');
        $collector->collect(new Request(), new Response());
        // As the profiler does between the request and its page.
        $collector = unserialize(serialize($collector));

        $template = $container->get('twig')->load('@SnokeWs/Collector/ws.html.twig');
        $panel = $template->renderBlock('panel', ['collector' => $collector]);

        self::assertStringContainsString('room:7', $panel);
        self::assertStringContainsString('A push needs at least one subject.', $panel);
        self::assertStringContainsString('&lt;script&gt;', $panel);
        self::assertStringNotContainsString('<script>"', $panel);
        self::assertStringContainsString('sf-toolbar', $template->renderBlock('toolbar', ['collector' => $collector, 'name' => 'snoke_ws', 'profiler_url' => '/', 'token' => 'x']));
        self::assertStringContainsString('WebSocket', $template->renderBlock('menu', ['collector' => $collector]));
    }

    /**
     * @param array<string, mixed>  $settings
     * @param list<string>          $public
     * @param array<string, string> $env
     */
    private function boot(array $settings, array $public, array $env = [], string $environment = 'test'): \Symfony\Component\DependencyInjection\ContainerInterface
    {
        foreach ($env as $name => $value) {
            $_ENV[$name] = $value;
        }
        $this->kernel = new TestKernel($settings, $public, $environment);
        $this->kernel->boot();

        return $this->kernel->getContainer();
    }
}
