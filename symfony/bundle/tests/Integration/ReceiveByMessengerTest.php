<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Tests\Integration\App\Application;
use Snoke\WsBundle\Tests\Support\Gateway;
use Snoke\WsBundle\Tests\Support\RabbitMqServer;
use Snoke\WsBundle\Tests\Support\RedisServer;
use Snoke\WsBundle\Tests\Unit\Event\EventFactoryTest;
use Snoke\WsBundle\Token\TokenFactory;

/**
 * messenger:consume reads what the real gateway writes: by this bundle's transport, and by Messenger's own.
 */
final class ReceiveByMessengerTest extends TestCase
{
    private RedisServer $server;
    private \Redis $redis;
    private Application $app;
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
        $this->app->remove();
        $this->server->remove();
    }

    public function testThisBundlesTransport(): void
    {
        $this->app = $this->application(['ws' => ['dsn' => 'snoke-ws://default', 'retry_strategy' => ['max_retries' => 2, 'delay' => 100]]]);
        $this->useGateway('json');
        // None of these holds it up, which Messenger's own Redis transport does not manage.
        foreach ([['data' => '17'], ['other' => 'x'], ['message' => '5']] as $fields) {
            $this->redis->xAdd('ws.inbox', '*', $fields);
        }
        $this->add(3, 'fail');
        $this->add(4, 'chat');
        $process = $this->app->start('messenger:consume', 'ws', '--time-limit=20', '-vv');
        $events = $this->app->waitForEvents(7);
        $process->signal(\SIGTERM);

        self::assertSame(0, $process->wait(), $process->output());
        self::assertSame([
            'message_received chat 1', 'message_received fail 3', 'message_received fail 3', 'message_received fail 3',
            'message_received chat 4',
        ], array_values(preg_grep('/^message/', $events) ?: []), $process->output());
        self::assertContains('disconnected -', $events);
        self::assertSame(3, $this->redis->xLen('ws.dlq'));
        self::assertSame(0, $this->redis->xLen('ws.inbox'));
    }

    public function testMessengersOwnRedisTransport(): void
    {
        // Messenger takes the database in a DSN's path for the name of the stream.
        $dsn = 'redis://127.0.0.1:' . $this->server->port;
        $this->app = $this->application([
            'ws' => [
                'dsn' => $dsn,
                'serializer' => 'snoke_ws.messenger.event_serializer',
                'options' => ['stream' => 'ws.inbox', 'group' => 'app', 'consumer' => 'one', 'delete_after_ack' => true],
                'retry_strategy' => ['max_retries' => 1, 'delay' => 0],
            ],
            'failed' => ['dsn' => $dsn . '/failed'],
        ]);
        $this->useGateway('messenger');
        $this->redis->xAdd('ws.inbox', '*', ['message' => json_encode(['body' => '17', 'headers' => []])]);
        $this->redis->xAdd('ws.inbox', '*', ['message' => json_encode(['body' => self::json(3, 'fail'), 'headers' => ['replayed' => '1']])]);
        $process = $this->app->start('messenger:consume', 'ws', '--time-limit=20', '-vv');
        $events = $this->app->waitForEvents(3);
        $end = microtime(true) + 10;
        while (2 > $this->redis->xLen('failed') && microtime(true) < $end) {
            usleep(20_000);
        }
        $process->signal(\SIGTERM);

        self::assertSame(0, $process->wait(), $process->output());
        self::assertSame(
            ['message_received chat 1', 'message_received fail 3 replayed', 'message_received fail 3 replayed'],
            $events,
            $process->output(),
        );
        self::assertSame(2, $this->redis->xLen('failed'), 'what is no event, and what failed twice');
        self::assertSame(0, $this->redis->xLen('ws.inbox'));
    }

    public function testMessengersOwnAmqpTransport(): void
    {
        $rabbit = RabbitMqServer::shared();
        $this->app = $this->application(['ws' => [
            'dsn' => $rabbit->dsn() . '/messages',
            'serializer' => 'snoke_ws.messenger.event_serializer',
            'options' => [
                'exchange' => ['name' => 'ws.inbox', 'type' => 'direct'],
                'queues' => ['app.inbox' => ['binding_keys' => ['ws.inbox']]],
            ],
        ]]);
        self::assertSame(0, $this->app->run('messenger:setup-transports')->wait());
        $this->useGateway('messenger', $rabbit->dsn());
        $process = $this->app->start('messenger:consume', 'ws', '--time-limit=20', '-vv');
        $events = $this->app->waitForEvents(1);
        $process->signal(\SIGTERM);

        self::assertSame(0, $process->wait(), $process->output());
        self::assertSame(['message_received chat 1'], $events, $process->output());
    }

    /**
     * @param array<string, mixed> $transports
     */
    private function application(array $transports): Application
    {
        return new Application([
            'mode' => 'core',
            'transport' => ['redis_stream' => ['dsn' => $this->server->dsn()]],
        ], ['messenger' => ['transports' => $transports] + (isset($transports['failed']) ? ['failure_transport' => 'failed'] : [])]);
    }

    private function useGateway(string $format, ?string $rabbit = null): void
    {
        $sink = null === $rabbit
            ? sprintf('redis_stream: { dsn: "%s", format: %s }', $this->server->dsn(), $format)
            : sprintf('rabbitmq: { dsn: "%s", format: %s }', $rabbit, $format);
        $this->gateway = new Gateway(<<<YAML
              mode: core
              stages: [{ auth: { jwt: { algorithm: HS256, public_key: "0123456789abcdef0123456789abcdef" } } }, { fan_out: {} }]
              events: { {$sink} }
            YAML);
        $client = $this->gateway->connect((new TokenFactory('HS256', '0123456789abcdef0123456789abcdef'))->forUser('42')->value);
        $client->send('{"type":"chat","n":1}');
        $client->close();
        if (null === $rabbit) {
            $end = microtime(true) + 10;
            while ((0 === $this->redis->xLen('ws.inbox') || 2 > $this->redis->xLen('ws.events')) && microtime(true) < $end) {
                usleep(20_000);
            }
        }
    }

    private function add(int $n, string $type): void
    {
        $this->redis->xAdd('ws.inbox', '*', ['data' => self::json($n, $type)]);
    }

    private static function json(int $n, string $type): string
    {
        return (string) json_encode(['event_id' => 'id-' . $n] + EventFactoryTest::message(['type' => $type, 'n' => $n]));
    }
}
