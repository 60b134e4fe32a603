<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Amqp\AmqpDsn;
use Snoke\WsBundle\Amqp\AmqpPublisherInterface;
use Snoke\WsBundle\Amqp\AmqpTarget;
use Snoke\WsBundle\Amqp\ExtAmqpPublisher;
use Snoke\WsBundle\Amqp\PhpAmqpLibPublisher;
use Snoke\WsBundle\Exception\AmqpException;
use Snoke\WsBundle\Tests\Integration\App\Application;
use Snoke\WsBundle\Tests\Support\RabbitMqServer;
use Snoke\WsBundle\Tests\Support\RedisServer;
use Snoke\WsBundle\Tests\Support\Server;
use Snoke\WsBundle\Tests\Unit\Event\EventFactoryTest;

/**
 * Workers where brokers, caches and events are not as one would have them: nothing is lost, and it goes on.
 */
final class HardshipTest extends TestCase
{
    private ?RedisServer $redis = null;
    private ?Application $app = null;
    private string $names = '';
    private ?\AMQPChannel $channel = null;

    protected function setUp(): void
    {
        $this->names = 'hard' . bin2hex(random_bytes(3));
    }

    protected function tearDown(): void
    {
        $this->app?->remove();
        $this->redis?->remove();
    }

    public function testLargeAndForeignEvents(): void
    {
        $this->app = $this->redisApplication();
        $redis = $this->redis();
        $large = ['event_id' => 'large', 'subjects' => array_map(static fn (int $n): string => "Raum:会議室-🚀-$n", range(1, 500))]
            + EventFactoryTest::message(['type' => 'größe 🚀', 'text' => str_repeat('ß', 1_000_000)]);
        $redis->xAdd('ws.inbox', '*', ['data' => json_encode($large, \JSON_UNESCAPED_UNICODE)]);
        // No JSON: what a client sent is text, and the gateway closes with 1007 what is none.
        $redis->xAdd('ws.inbox', '*', ['data' => str_replace('hello', "\xff\xfe", (string) json_encode(['event_id' => 'x'] + EventFactoryTest::message()))]);
        $this->addToRedis(1);
        $process = $this->app->run('ws:consume', '--limit=3', '--time-limit=20', '-v');

        self::assertSame(['message_received größe 🚀', 'message_received chat 1'], $this->app->events(), $process->output());
        self::assertStringContainsString('message_received (gr????e', $process->output(), 'lines cannot be broken by what a client chose');
        $letters = array_values($redis->xRange('ws.dlq', '-', '+'));
        self::assertCount(1, $letters);
        self::assertStringContainsString("\xff\xfe", $letters[0]['raw']);
        self::assertStringContainsString('UTF-8', $letters[0]['reason']);
    }

    public function testTwoWorkersOfOneNameLoseNothing(): void
    {
        $this->app = $this->redisApplication();
        for ($n = 1; $n <= 400; ++$n) {
            $this->addToRedis($n, 0 === $n % 100 ? 'slow' : 'chat');
        }
        $workers = [$this->app->start('ws:consume', '--name=same'), $this->app->start('ws:consume', '--name=same')];
        Server::wait('all of them', fn (): bool => 400 === \count(array_unique($this->numbers())));
        Server::wait('acknowledgements', fn (): bool => 0 === $this->redis()->xLen('ws.inbox'));
        foreach ($workers as $worker) {
            $worker->signal(\SIGTERM);
            self::assertSame(0, $worker->wait(), $worker->output());
        }
        self::assertSame(0, $this->redis()->xLen('ws.dlq'));
    }

    public function testARedisThatIsFullKeepsWhatItCannotBury(): void
    {
        $this->app = $this->redisApplication();
        $redis = $this->redis();
        $redis->xAdd('ws.events', '*', ['data' => 'no event']);
        $this->addToRedis(1);
        $this->addToRedis(2);
        $redis->config('SET', 'maxmemory', '1');
        $process = $this->app->start('ws:consume', '-v');
        $process->waitFor('OOM');
        self::assertSame([1, 0], [$redis->xLen('ws.events'), $redis->xLen('ws.dlq')]);
        $redis->config('SET', 'maxmemory', '0');
        $this->app->waitForEvents(2);
        Server::wait('the dead letter', static fn (): bool => 1 === $redis->xLen('ws.dlq'));

        self::assertSame([1, 2], $this->numbers());
        self::assertSame(0, $redis->xLen('ws.events'));
    }

    public function testACacheThatIsDownDelaysNothing(): void
    {
        $redis = $this->redis();
        $this->app = new Application(
            ['mode' => 'core', 'transport' => ['redis_stream' => ['dsn' => $this->redis?->dsn()]]],
            ['cache' => ['app' => 'cache.adapter.redis', 'default_redis_provider' => 'redis://127.0.0.1:1']],
        );
        for ($n = 1; $n <= 3; ++$n) {
            $this->addToRedis($n);
        }
        $process = $this->app->run('ws:consume', '--limit=3', '--time-limit=20');

        self::assertSame([1, 2, 3], $this->numbers(), $process->output());
        self::assertSame([0, 0], [$redis->xLen('ws.inbox'), $redis->xLen('ws.dlq')]);
    }

    public function testAQueueThatIsPurgedWhileItIsRead(): void
    {
        $this->app = $this->rabbitMqApplication();
        self::assertSame(0, $this->app->run('ws:consume', '--time-limit=1')->wait());
        for ($n = 1; $n <= 60; ++$n) {
            $this->addToRabbitMq((string) json_encode(['event_id' => 'id-' . $n] + EventFactoryTest::message(['type' => $n < 3 ? 'slow' : 'chat', 'n' => $n])));
        }
        $process = $this->app->start('ws:consume', '-v');
        $this->app->waitForEvents(1);
        $this->queue('.inbox')->purge();
        $this->addToRabbitMq((string) json_encode(['event_id' => 'id-99'] + EventFactoryTest::message(['type' => 'chat', 'n' => 99])));
        Server::wait('the one after', fn (): bool => \in_array(99, $this->numbers(), true));
        // What it had in hand is handled, once.
        self::assertSame([...range(1, 20), 99], $this->numbers(), $process->output());
        self::assertStringNotContainsString('Trying again', $process->output());
    }

    public function testARabbitMqThatBlocksPublishersLosesNoDeadLetter(): void
    {
        $server = RabbitMqServer::shared();
        $this->app = $this->rabbitMqApplication();
        self::assertSame(0, $this->app->run('ws:consume', '--time-limit=1')->wait());
        $this->addToRabbitMq('no event');
        $this->addToRabbitMq((string) json_encode(['event_id' => 'id-1'] + EventFactoryTest::message(['type' => 'chat', 'n' => 1])));
        $server->control('set_vm_memory_high_watermark', '0.00001');
        try {
            foreach ([ExtAmqpPublisher::class, PhpAmqpLibPublisher::class] as $library) {
                self::assertPushFailsInTime(new $library(AmqpDsn::parse($server->dsn(), 'x'), new AmqpTarget($this->names . '.outbox', 'x', true, 2.0)));
            }
            $process = $this->app->start('ws:consume', '-v');
            $process->waitFor('Trying again', 40);
            $process->signal(\SIGTERM);
            self::assertSame(0, $process->wait(), $process->output());
        } finally {
            $server->control('set_vm_memory_high_watermark', '0.4');
        }
        $process = $this->app->start('ws:consume', '-v');
        $this->app->waitForEvents(1);
        self::assertSame([1], $this->numbers(), $process->output());
        // Those whose confirmation did not come may be there twice.
        Server::wait('the dead letter', fn (): bool => $this->messages('.dlq') >= 1);
        self::assertSame(0, $this->messages('.inbox'));
    }

    private static function assertPushFailsInTime(AmqpPublisherInterface $publisher): void
    {
        $started = microtime(true);
        try {
            $publisher->publish('{}', 'id', []);
            self::fail('It was confirmed.');
        } catch (AmqpException $exception) {
            self::assertLessThan(8.0, microtime(true) - $started, $exception->getMessage());
        }
    }

    private function redis(): \Redis
    {
        $this->redis ??= new RedisServer();
        $redis = new \Redis();
        $redis->connect('127.0.0.1', $this->redis->port);

        return $redis;
    }

    private function redisApplication(): Application
    {
        $this->redis();

        return new Application(['mode' => 'core', 'transport' => ['redis_stream' => ['dsn' => $this->redis?->dsn()]]]);
    }

    private function addToRedis(int $n, string $type = 'chat'): void
    {
        $this->redis()->xAdd('ws.inbox', '*', ['data' => json_encode(['event_id' => 'id-' . $n] + EventFactoryTest::message(['type' => $type, 'n' => $n]))]);
    }

    private function rabbitMqApplication(): Application
    {
        return new Application([
            'mode' => 'core',
            'transport' => ['type' => 'rabbitmq', 'rabbitmq' => ['dsn' => RabbitMqServer::shared()->dsn()]],
            'presence' => ['type' => 'in_memory'],
            'events' => ['type' => 'rabbitmq', 'rabbitmq' => [
                'exchange' => $this->names . '.events', 'routing_key' => $this->names . '.events', 'queue' => $this->names . '.events',
                'inbox_exchange' => $this->names . '.inbox', 'inbox_routing_key' => $this->names . '.inbox', 'inbox_queue' => $this->names . '.inbox',
                'dead_letter_exchange' => $this->names . '.dlq', 'dead_letter_queue' => $this->names . '.dlq',
            ]],
        ]);
    }

    private function addToRabbitMq(string $body): void
    {
        $exchange = new \AMQPExchange($this->channel());
        $exchange->setName($this->names . '.inbox');
        $exchange->publish($body, $this->names . '.inbox', \AMQP_NOPARAM, ['delivery_mode' => 2]);
    }

    private function queue(string $suffix): \AMQPQueue
    {
        $queue = new \AMQPQueue($this->channel());
        $queue->setName($this->names . $suffix);

        return $queue;
    }

    private function messages(string $suffix): int
    {
        $queue = $this->queue($suffix);
        $queue->setFlags(\AMQP_PASSIVE);

        return $queue->declareQueue();
    }

    private function channel(): \AMQPChannel
    {
        if (null === $this->channel || !$this->channel->isConnected()) {
            $connection = new \AMQPConnection(['host' => '127.0.0.1', 'port' => RabbitMqServer::shared()->port]);
            $connection->connect();
            $this->channel = new \AMQPChannel($connection);
        }

        return $this->channel;
    }

    /**
     * @return list<int>
     */
    private function numbers(): array
    {
        return array_map(static fn (string $line): int => (int) explode(' ', $line)[2], $this->app?->events() ?? []);
    }
}
