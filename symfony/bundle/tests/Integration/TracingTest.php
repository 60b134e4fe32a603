<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Tests\Integration\App\Application;
use Snoke\WsBundle\Tests\Support\Gateway;
use Snoke\WsBundle\Tests\Support\RedisServer;
use Snoke\WsBundle\Tests\Support\Server;
use Snoke\WsBundle\Tests\Support\WsClient;
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
    private ?WsClient $client = null;

    protected function setUp(): void
    {
        $this->server = new RedisServer();
        $this->redis = new \Redis();
        $this->redis->connect('127.0.0.1', $this->server->port);
    }

    protected function tearDown(): void
    {
        $this->client = null;
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

        $spans = $this->checkSpans($this->app->webOutput(), $pushed, ['POST /internal/ws/events']);
        $server = $spans['POST /internal/ws/events'];
        self::assertSame([2, 0x301], [$server['kind'], $server['flags']], 'a server, below another process\'s span');
        self::assertSame($server['spanId'], $spans['ws.message_received']['parentSpanId']);
        $attributes = array_map(current(...), array_column($server['attributes'], 'value', 'key'));
        self::assertSame(['POST', '/internal/ws/events', '204'], [
            $attributes['http.request.method'], $attributes['http.route'], $attributes['http.response.status_code'],
        ]);
    }

    public function testByConsumer(): void
    {
        $this->app = new Application($this->settings('stdout'));
        $this->sayToGateway('redis_stream: { dsn: "' . $this->server->dsn() . '" }', 'broker');
        $process = $this->app->run('ws:consume', '--limit=2', '--time-limit=15');

        $spans = $this->checkSpans($process->output(), $this->pushed());
        self::assertSame(0x301, $spans['ws.message_received']['flags']);
        $attributes = array_map(current(...), array_column($spans['ws.message_received']['attributes'], 'value', 'key'));
        self::assertSame(['redis', 'process', 'ws.inbox'], [
            $attributes['messaging.system'], $attributes['messaging.operation.type'], $attributes['messaging.destination.name'],
        ]);
        self::assertArrayNotHasKey('user.id', $attributes);
        self::assertSame(substr(hash_hmac('sha256', '42', hash('sha256', "wsgw user hash\nk", true)), 0, 32), $attributes['user.hash']);
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

    /**
     * Guards against a web server whose workers all wait, after each answer, for a collector that hangs.
     */
    public function testACollectorThatHangsIsWaitedForOnce(): void
    {
        $hangs = stream_socket_server('tcp://127.0.0.1:0');
        self::assertIsResource($hangs);
        $this->app = new Application(array_replace_recursive(
            $this->settings('otlp'),
            ['tracing' => ['endpoint' => 'http://' . stream_socket_get_name($hangs, false)]],
            ['events' => ['type' => 'webhook', 'webhook' => ['secret' => 'secret']]],
        ));
        $url = $this->app->serve() . '/internal/ws/events';
        $this->sayToGateway('webhook: { url: "' . $url . '", secret: secret }', 'webhook', 3);
        self::assertCount(4, $this->app->waitForEvents(4));
        $this->client = null;
        $this->gateway?->remove();
        $this->gateway = null;
        self::assertCount(5, $this->app->waitForEvents(5), 'and the disconnect');

        $count = 0;
        while (false !== @stream_socket_accept($hangs, 0.0)) {
            ++$count;
        }
        fclose($hangs);
        // Two requests may have begun before the first had given up.
        self::assertContains($count, [1, 2]);
    }

    /**
     * @param list<string> $more names of spans beside the usual two
     *
     * @return array<string, array<string, mixed>> the spans by their names
     */
    private function checkSpans(string $output, string $pushed, array $more = []): array
    {
        $spans = [];
        foreach (explode("\n", $output) as $line) {
            $span = json_decode($line, true);
            if (self::TRACE === ($span['traceId'] ?? null)) {
                $spans[$span['name']] = $span;
            }
        }
        self::assertSame([...$more, 'ws.message_received', 'ws.publish'], self::sorted(array_keys($spans)), $output);
        $event = $spans['ws.message_received'];
        self::assertSame([5, 4], [$event['kind'], $spans['ws.publish']['kind']]);
        self::assertNotSame('', $event['parentSpanId']);
        self::assertSame($event['spanId'], $spans['ws.publish']['parentSpanId']);
        self::assertSame(sprintf('00-%s-%s-01', self::TRACE, $spans['ws.publish']['spanId']), $pushed);
        self::assertStringNotContainsString('hello', $output);

        return $spans;
    }

    private function sayToGateway(string $events, string $mode, int $times = 1): void
    {
        $this->gateway = new Gateway(<<<YAML
              mode: core
              stages: [{ auth: { jwt: { algorithm: HS256, public_key: "0123456789abcdef0123456789abcdef" } } }, { trace: { strategy: full } }, { fan_out: { events_mode: {$mode} } }]
              events: { {$events} }
            YAML);
        // Kept open: what a connection still carries when it breaks is lost.
        $this->client = $this->gateway->connect((new TokenFactory('HS256', self::KEY))->forUser('42')->value);
        for ($i = 0; $i < $times; ++$i) {
            $this->client->send('{"type":"push","traceparent":"00-' . self::TRACE . '-b7ad6b7169203331-01"}');
        }
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
            'tracing' => ['user_hash_key' => 'k', 'enabled' => true, 'exporter' => $exporter, 'endpoint' => 'http://127.0.0.1:9'],
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
