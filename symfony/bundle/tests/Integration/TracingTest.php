<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Tests\Integration\App\Application;
use Snoke\WsBundle\Tests\Support\Gateway;
use Snoke\WsBundle\Tests\Support\RedisServer;
use Snoke\WsBundle\Tests\Support\Server;
use Snoke\WsBundle\Token\TokenFactory;

/**
 * One trace leads from the client through the gateway and the application to the push.
 */
final class TracingTest extends TestCase
{
    private const KEY = '0123456789abcdef0123456789abcdef';
    private const TRACE = '0af7651916cd43dd8448eb211c80319c';

    private RedisServer $server;
    private \Redis $redis;
    private ?Application $app = null;
    private ?Gateway $gateway = null;

    protected function setUp(): void
    {
        $this->server = new RedisServer();
        $this->redis = new \Redis();
        $this->redis->connect('127.0.0.1', $this->server->port);
    }

    protected function tearDown(): void
    {
        $this->gateway?->remove();
        $this->app?->remove();
        $this->server->remove();
    }

    public function testByWebhook(): void
    {
        $this->app = new Application($this->settings('stdout') + ['events' => ['type' => 'webhook', 'webhook' => ['secret' => 'secret']]]);
        $url = $this->app->serve() . '/internal/ws/events';
        $this->sayToGateway('webhook: { url: "' . $url . '", secret: secret }', 'webhook');
        $this->app->waitForEvents(2);
        $pushed = $this->pushed();
        // Written after the answer.
        Server::wait('spans', fn (): bool => str_contains((string) $this->app?->webOutput(), '"ws.message_received"'));

        $this->checkSpans($this->app->webOutput(), $pushed, 2);
    }

    public function testByConsumer(): void
    {
        $this->app = new Application($this->settings('stdout'));
        $this->sayToGateway('redis_stream: { dsn: "' . $this->server->dsn() . '" }', 'broker');
        $process = $this->app->run('ws:consume', '--limit=2', '--time-limit=15');

        $this->checkSpans($process->output(), $this->pushed(), 5);
    }

    /**
     * @dataProvider exporters
     */
    #[DataProvider('exporters')]
    public function testACollectorThatIsAwayChangesNothing(string $exporter, bool $isPassedOn): void
    {
        $this->app = new Application($this->settings($exporter));
        $this->sayToGateway('redis_stream: { dsn: "' . $this->server->dsn() . '" }', 'broker');
        $process = $this->app->run('ws:consume', '--limit=2', '--time-limit=15');

        self::assertSame(0, $process->wait());
        self::assertSame($isPassedOn, str_contains($this->pushed(), self::TRACE));
    }

    /**
     * @return iterable<string, array{string, bool}>
     */
    public static function exporters(): iterable
    {
        yield 'otlp' => ['otlp', true];
        yield 'none' => ['none', true];
    }

    private function checkSpans(string $output, string $pushed, int $kind): void
    {
        $spans = [];
        foreach (explode("\n", $output) as $line) {
            $span = json_decode($line, true);
            if (self::TRACE === ($span['traceId'] ?? null)) {
                $spans[$span['name']] = $span;
            }
        }
        self::assertSame(['ws.message_received', 'ws.publish'], self::sorted(array_keys($spans)), $output);
        $event = $spans['ws.message_received'];
        self::assertSame($kind, $event['kind']);
        self::assertNotSame('', $event['parentSpanId']);
        self::assertSame($event['spanId'], $spans['ws.publish']['parentSpanId']);
        self::assertSame(sprintf('00-%s-%s-01', self::TRACE, $spans['ws.publish']['spanId']), $pushed);
        self::assertStringNotContainsString('hello', $output);
    }

    private function sayToGateway(string $events, string $mode): void
    {
        $this->gateway = new Gateway(<<<YAML
              mode: core
              stages: [{ auth: { jwt: { algorithm: HS256, public_key: "0123456789abcdef0123456789abcdef" } } }, { trace: { strategy: full } }, { fan_out: { events_mode: {$mode} } }]
              events: { {$events} }
            YAML);
        $client = $this->gateway->connect((new TokenFactory('HS256', self::KEY))->forUser('42')->value);
        $client->send('{"type":"push","traceparent":"00-' . self::TRACE . '-b7ad6b7169203331-01"}');
        $end = microtime(true) + 5;
        while ('broker' === $mode && 0 === $this->redis->xLen('ws.inbox') && microtime(true) < $end) {
            usleep(20_000);
        }
    }

    /**
     * The traceparent of the push.
     */
    private function pushed(): string
    {
        $end = microtime(true) + 5;
        while (0 === $this->redis->xLen('ws.outbox') && microtime(true) < $end) {
            usleep(20_000);
        }
        $entry = array_values($this->redis->xRange('ws.outbox', '-', '+'))[0] ?? ['data' => '{}'];

        return json_decode($entry['data'], true)['traceparent'] ?? '';
    }

    /**
     * @return array<string, mixed>
     */
    private function settings(string $exporter): array
    {
        return [
            'mode' => 'core',
            'transport' => ['redis_stream' => ['dsn' => $this->server->dsn()]],
            'tracing' => ['enabled' => true, 'exporter' => $exporter, 'endpoint' => 'http://127.0.0.1:9'],
        ];
    }

    /**
     * @param list<string> $lines
     *
     * @return list<string>
     */
    private static function sorted(array $lines): array
    {
        sort($lines);

        return $lines;
    }
}
