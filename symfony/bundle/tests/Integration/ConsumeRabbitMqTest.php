<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Amqp\AmqpDsn;
use Snoke\WsBundle\Consumer\Amqp\AmqpBinding;
use Snoke\WsBundle\Consumer\Amqp\AmqpConsumerInterface;
use Snoke\WsBundle\Consumer\Amqp\AmqpSettings;
use Snoke\WsBundle\Consumer\Amqp\AmqpSource;
use Snoke\WsBundle\Consumer\Amqp\ExtAmqpConsumer;
use Snoke\WsBundle\Consumer\Amqp\PhpAmqpLibConsumer;
use Snoke\WsBundle\Consumer\SourceUnavailableException;
use Snoke\WsBundle\Tests\Integration\App\Application;
use Snoke\WsBundle\Tests\Support\Gateway;
use Snoke\WsBundle\Tests\Support\RabbitMqServer;
use Snoke\WsBundle\Tests\Support\Server;
use Snoke\WsBundle\Tests\Unit\Event\EventFactoryTest;
use Snoke\WsBundle\Token\TokenFactory;

/**
 * ws:consume reads the queues of a real RabbitMQ, filled by the real gateway or by hand.
 */
final class ConsumeRabbitMqTest extends TestCase
{
    private const SECRET = '0123456789abcdef0123456789abcdef';

    private static int $number = 0;
    private RabbitMqServer $server;
    private \AMQPChannel $channel;
    private string $names;
    private Application $app;
    private ?Gateway $gateway = null;

    protected function setUp(): void
    {
        $this->server = RabbitMqServer::shared();
        $this->connect();
        $this->names = 'test' . ++self::$number;
        $this->app = $this->application();
    }

    protected function tearDown(): void
    {
        $this->gateway?->remove();
        $this->app->remove();
        foreach (['.inbox', '.inbox.0', '.inbox.1', '.inbox.2', '.events', '.dlq'] as $suffix) {
            $this->queue($this->names . $suffix)->delete();
        }
    }

    /**
     * @dataProvider formats
     */
    #[DataProvider('formats')]
    public function testWhatTheGatewayPublishesIsHandled(string $format): void
    {
        // It declares the queues, so it comes first: without them the gateway's events are dead letters.
        $process = $this->app->start('ws:consume', '--limit=4', '--time-limit=20', '-v');
        $this->waitForConsumer();
        $this->gateway = new Gateway(<<<YAML
              mode: core
              stages: [{ auth: { jwt: { algorithm: HS256, public_key: "0123456789abcdef0123456789abcdef" } } }, { fan_out: {} }]
              events:
                rabbitmq: { dsn: "{$this->server->dsn()}", format: {$format}, exchange: {$this->names}.events, routing_key: {$this->names}.events, inbox_exchange: {$this->names}.inbox, inbox_routing_key: {$this->names}.inbox }
                dead_letters: { rabbitmq: { exchange: {$this->names}.dlq, queue: {$this->names}.dlq } }
            YAML);
        $client = $this->gateway->connect((new TokenFactory('HS256', self::SECRET))->forUser('42')->value);
        $client->send('{"type":"chat","n":1}');
        $client->send('{"type":"chat","n":2}');
        $client->close();

        self::assertSame(0, $process->wait(), $process->output());
        $events = $this->app->events();
        self::assertSame('connected -', $events[0]);
        self::assertSame(['message_received chat 1', 'message_received chat 2'], array_values(preg_grep('/chat/', $events) ?: []));
        self::assertContains('disconnected -', $events);
        self::assertSame([0, 0, 0], [$this->messages('.inbox'), $this->messages('.events'), $this->messages('.dlq')]);
    }

    /**
     * @return iterable<string, array{string}>
     */
    public static function formats(): iterable
    {
        yield 'json' => ['json'];
        yield 'messenger' => ['messenger'];
    }

    public function testQueuesThatTheGatewayDeclaresAreTakenAsTheyAre(): void
    {
        $this->gateway = new Gateway(<<<YAML
              mode: core
              stages: [{ auth: { jwt: { algorithm: HS256, public_key: "0123456789abcdef0123456789abcdef" } } }, { ordering_key: { strategy: topic, partition_mode: suffix } }, { fan_out: {} }]
              events:
                rabbitmq: { dsn: "{$this->server->dsn()}", exchange: {$this->names}.events, routing_key: {$this->names}.events, queue: {$this->names}.events, queue_ttl_ms: 600000, inbox_exchange: {$this->names}.inbox, inbox_routing_key: {$this->names}.inbox, inbox_queue: {$this->names}.inbox, inbox_queue_ttl_ms: 600000 }
                dead_letters: { rabbitmq: { exchange: {$this->names}.dlq, queue: {$this->names}.dlq } }
            YAML);
        $client = $this->gateway->connect((new TokenFactory('HS256', self::SECRET))->forUser('42')->value);
        $client->send('{"type":"chat","topic":"room:1","n":1}');
        $process = $this->app->run('ws:consume', '--limit=2', '--time-limit=20', '-v');

        self::assertSame(0, $process->wait(), $process->output());
        self::assertSame(['connected -', 'message_received chat 1'], $this->app->events());
    }

    public function testShardsHaveQueuesThatOneWorkerHasForItself(): void
    {
        $this->app->remove();
        $this->app = $this->application(['partitions' => 3, 'inbox_single_active_consumer' => true]);
        // The first declares the queues; each has all of them, and the second is to have none.
        $first = $this->app->start('ws:consume', '-v');
        $this->waitForConsumer('.inbox.2');
        $this->gateway = new Gateway(<<<YAML
              mode: core
              stages: [{ auth: { jwt: { algorithm: HS256, public_key: "0123456789abcdef0123456789abcdef" } } }, { ordering_key: { strategy: topic, partition_mode: shards, partitions: 3 } }, { fan_out: {} }]
              events:
                rabbitmq: { dsn: "{$this->server->dsn()}", exchange: {$this->names}.events, routing_key: {$this->names}.events, inbox_exchange: {$this->names}.inbox, inbox_routing_key: {$this->names}.inbox }
                dead_letters: { rabbitmq: { exchange: {$this->names}.dlq, queue: {$this->names}.dlq } }
            YAML);
        $second = $this->app->start('ws:consume', '-v', '--shards=0-2');
        $second->waitFor('Reading');
        $client = $this->gateway->connect((new TokenFactory('HS256', self::SECRET))->forUser('42')->value);
        for ($n = 0; $n < 30; ++$n) {
            $client->send(sprintf('{"type":"chat","topic":"room:%d","n":%d}', $n % 6, $n));
        }
        $numbers = fn (): array => array_map(static fn (string $line): int => (int) explode(' ', $line)[2], array_values(preg_grep('/ chat /', $this->app->events()) ?: []));
        Server::wait('all of them', static fn (): bool => 30 === \count($numbers()));
        foreach (range(0, 5) as $room) {
            self::assertSame(range($room, 29, 6), array_values(array_filter($numbers(), static fn (int $n): bool => $n % 6 === $room)));
        }
        self::assertStringNotContainsString('handled in', $second->output());
        self::assertStringContainsString($this->names . '.inbox.0, ' . $this->names . '.inbox.1, ' . $this->names . '.inbox.2', $second->output());

        // It takes over what the first leaves.
        $first->signal(\SIGTERM);
        self::assertSame(0, $first->wait(), $first->output());
        for ($n = 30; $n < 60; ++$n) {
            $client->send(sprintf('{"type":"chat","topic":"room:%d","n":%d}', $n % 6, $n));
        }
        Server::wait('the others', static fn (): bool => 60 === \count($numbers()));
        self::assertStringContainsString('handled in', $second->output());
        $second->signal(\SIGTERM);
        self::assertSame(0, $second->wait(), $second->output());
        $client->close();
    }

    public function testWhatIsNoEventGoesToTheDeadLettersAndTheRestGoesOn(): void
    {
        $this->declare();
        foreach (['17', 'null', '{', '', '{"type":"connected"}'] as $body) {
            $this->publish($body);
        }
        $this->add(1);
        $process = $this->app->run('ws:consume', '--limit=6', '--time-limit=20', '-v');

        self::assertSame(['message_received chat 1'], $this->app->events(), $process->output());
        self::assertSame(0, $this->messages('.inbox'));
        self::assertSame(5, $this->messages('.dlq'));
        $letter = $this->queue($this->names . '.dlq')->get(\AMQP_AUTOACK);
        self::assertInstanceOf(\AMQPEnvelope::class, $letter);
        self::assertSame('17', $letter->getBody());
        self::assertSame('the event is not a JSON object, but int', $letter->getHeader('reason'));
        self::assertSame('rabbitmq', $letter->getHeader('sink'));
        self::assertEqualsWithDelta(time(), (int) $letter->getHeader('failed_at'), 20);
        self::assertSame(2, $letter->getDeliveryMode());
    }

    public function testAWorkerThatIsKilledLosesNothingAndKeepsTheOrder(): void
    {
        $this->declare();
        for ($n = 0; $n < 1000; ++$n) {
            $this->add($n);
        }
        $handled = 0;
        for ($kill = 0; $kill < 2; ++$kill) {
            $process = $this->app->start('ws:consume');
            $handled = \count($this->app->waitForEvents($handled + 50));
            $process->signal(\SIGKILL);
            self::assertSame(128 + \SIGKILL, $process->wait());
        }
        self::assertLessThan(1000, $handled, 'something must be left');
        $process = $this->app->start('ws:consume', '--time-limit=30');
        Server::wait('the rest', fn (): bool => 999 === (int) (array_slice($this->numbers(), -1)[0] ?? 0));
        $process->signal(\SIGTERM);
        self::assertSame(0, $process->wait());

        $numbers = $this->numbers();
        self::assertSame(range(0, 999), array_values(array_unique($numbers)), 'all of them, in their order');
        self::assertLessThanOrEqual(1002, \count($numbers), 'at most the one in hand is handled twice');
        self::assertSame(0, $this->messages('.inbox'));
    }

    public function testAMessageThatKillsItsWorkersIsTheOnlyOneGivenUp(): void
    {
        $this->declare();
        $this->add(0);
        $this->add(1, 'die');
        for ($n = 2; $n < 8; ++$n) {
            $this->add($n);
        }
        for ($run = 0; $run < 7; ++$run) {
            $code = $this->app->run('ws:consume', '--time-limit=4', '--limit=7')->wait();
            if (0 === $code) {
                break;
            }
            self::assertSame(128 + \SIGKILL, $code);
        }
        self::assertSame([0, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7], $this->numbers());
        self::assertSame(1, $this->messages('.dlq'));
    }

    public function testAFailingMessageHoldsBackItsOwnQueueOnly(): void
    {
        $this->app->remove();
        $this->app = $this->application(['max_deliveries' => 3]);
        $this->declare();
        $this->add(1, 'fail');
        $this->add(2);
        $this->publish(self::json(3, 'chat'), '.events');
        $process = $this->app->run('ws:consume', '--time-limit=10', '--limit=5', '-v');

        $numbers = $this->numbers();
        self::assertContains(3, \array_slice($numbers, 0, 2), $process->output());
        self::assertSame([1, 1, 1, 2], array_values(array_diff($numbers, [3])));
        $letter = $this->queue($this->names . '.dlq')->get(\AMQP_AUTOACK);
        self::assertInstanceOf(\AMQPEnvelope::class, $letter);
        self::assertSame('3 tries failed, the last by RuntimeException', $letter->getHeader('reason'));
        self::assertSame('id-1', $letter->getHeader('event_id'));
        self::assertSame('id-1', $letter->getMessageId());
    }

    public function testSigtermEndsItWithTheMessageInHandAndGivesTheOthersBack(): void
    {
        $this->declare();
        for ($n = 0; $n < 6; ++$n) {
            $this->add($n, 'slow');
        }
        $process = $this->app->start('ws:consume');
        $this->app->waitForEvents(2);
        $process->signal(\SIGTERM);
        self::assertSame(0, $process->wait());
        $handled = \count($this->app->events());
        Server::wait('the others', fn (): bool => 6 - $handled === $this->messages('.inbox'));
        $this->app->run('ws:consume', '--limit=' . (6 - $handled), '--time-limit=15');

        self::assertSame(range(0, 5), $this->numbers());
    }

    public function testAQueueThatIsDeletedIsDeclaredAgain(): void
    {
        $this->declare();
        $process = $this->app->start('ws:consume', '-v');
        $this->add(1);
        $this->app->waitForEvents(1);
        $this->queue($this->names . '.inbox')->delete();
        $process->waitFor('deleted a queue that is read');
        $process->waitFor('connected again');
        $this->add(2);

        self::assertSame(['message_received chat 1', 'message_received chat 2'], $this->app->waitForEvents(2), $process->output());
    }

    public function testItWaitsForARabbitMqThatIsAway(): void
    {
        $this->declare();
        for ($n = 0; $n < 12; ++$n) {
            $this->add($n, $n < 6 ? 'chat' : 'slow');
        }
        $process = $this->app->start('ws:consume', '-v');
        $this->app->waitForEvents(8);
        $this->server->kill();
        $process->waitFor('Trying again in');
        $this->server->start();
        $process->waitFor('connected again', 60);
        $this->connect();
        $this->add(12);
        self::assertContains('message_received chat 12', $this->app->waitForEvents(13, 30), $process->output());
        $process->signal(\SIGTERM);

        self::assertSame(0, $process->wait(), $process->output());
        self::assertSame(range(0, 12), $this->numbers(), 'each once, in order');
        Server::wait('acknowledgements', fn (): bool => 0 === $this->messages('.inbox'));
    }

    /**
     * The command takes php-amqplib where both are there; this is the whole way by either.
     *
     * @dataProvider libraries
     *
     * @param class-string<AmqpConsumerInterface> $library
     */
    #[DataProvider('libraries')]
    public function testEitherLibrary(string $library): void
    {
        $settings = new AmqpSettings([
            new AmqpBinding($this->names . '.events', $this->names . '.events', $this->names . '.events'),
            new AmqpBinding($this->names . '.inbox', $this->names . '.inbox', $this->names . '.inbox.#', 'topic'),
        ], true, 5, $this->names . '.dlq', $this->names . '.dlq');
        $dsn = AmqpDsn::parse($this->server->dsn(), 'events.rabbitmq.dsn');
        $source = new AmqpSource(new $library($dsn), $settings);
        $started = microtime(true);
        self::assertNull($source->next(0.3));
        self::assertGreaterThanOrEqual(0.3, microtime(true) - $started);

        for ($n = 0; $n < 12; ++$n) {
            $this->publish(self::json($n, 'chat'), '.inbox', $this->names . '.inbox.room:' . $n % 3);
        }
        $this->publish('bad', '.events');
        for ($n = 0; $n < 12; ++$n) {
            $entry = $source->next(10.0);
            self::assertNotNull($entry);
            if ('bad' === $entry->body) {
                // While others are on their way to it.
                $source->deadLetter($entry, 'no event');
                --$n;
                continue;
            }
            self::assertSame('id-' . $n, $entry->id);
            self::assertSame(1, $entry->deliveries);
            if (5 === $n) {
                $source->retry($entry, 0.2);
                $again = $source->next(10.0);
                if ('bad' === $again?->body) {
                    $source->deadLetter($again, 'no event');
                    $again = $source->next(10.0);
                }
                self::assertSame(['id-5', 2], [$again?->id, $again?->deliveries]);
                $entry = $again;
            }
            self::assertNotNull($entry);
            $source->keepAlive();
            $source->done($entry);
        }
        self::assertSame(1, $this->messages('.dlq'));

        // What is not acknowledged comes again, in its order, and says so.
        $this->publish(self::json(20, 'chat'), '.inbox', $this->names . '.inbox');
        $this->publish(self::json(21, 'chat'), '.inbox', $this->names . '.inbox');
        self::assertSame('id-20', $source->next(10.0)?->id);
        $source->close();
        $entry = $source->next(10.0);
        self::assertSame(['id-20', 2], [$entry?->id, $entry?->deliveries]);
        $source->close();

        // Dead letters that no queue takes stay where they are.
        $this->queue($this->names . '.dlq')->delete();
        $source = new AmqpSource(new $library($dsn), new AmqpSettings($settings->bindings, false, 5, $this->names . '.dlq', $this->names . '.dlq'));
        $entry = $source->next(10.0);
        self::assertNotNull($entry);
        try {
            $source->deadLetter($entry, 'no event');
            self::fail('must not be lost silently');
        } catch (SourceUnavailableException $exception) {
            self::assertStringContainsString('has no queue bound', $exception->getMessage());
        }
        $source->close();
        Server::wait('the messages', fn (): bool => 2 === $this->messages('.inbox'));
        $nowhere = new AmqpSource(new $library(AmqpDsn::parse('amqp://guest:s3cret@127.0.0.1:' . $this->server->port, 'x')), $settings);
        try {
            $nowhere->next(1.0);
            self::fail('the password is wrong');
        } catch (SourceUnavailableException $exception) {
            self::assertStringNotContainsString('s3cret', $exception->getMessage());
        }
    }

    /**
     * @return iterable<string, array{class-string<AmqpConsumerInterface>}>
     */
    public static function libraries(): iterable
    {
        yield 'php-amqplib' => [PhpAmqpLibConsumer::class];
        yield 'ext-amqp' => [ExtAmqpConsumer::class];
    }

    /**
     * @param array<string, mixed> $rabbitmq
     */
    private function application(array $rabbitmq = []): Application
    {
        return new Application([
            'mode' => 'core',
            'transport' => ['type' => 'rabbitmq', 'rabbitmq' => ['dsn' => $this->server->dsn()]],
            'presence' => ['type' => 'in_memory'],
            'events' => ['type' => 'rabbitmq', 'rabbitmq' => $rabbitmq + [
                'exchange' => $this->names . '.events',
                'routing_key' => $this->names . '.events',
                'queue' => $this->names . '.events',
                'inbox_exchange' => $this->names . '.inbox',
                'inbox_routing_key' => $this->names . '.inbox',
                'inbox_queue' => $this->names . '.inbox',
                'dead_letter_exchange' => $this->names . '.dlq',
                'dead_letter_queue' => $this->names . '.dlq',
            ]],
        ]);
    }

    private function connect(): void
    {
        $connection = new \AMQPConnection(['host' => '127.0.0.1', 'port' => $this->server->port]);
        $connection->connect();
        $this->channel = new \AMQPChannel($connection);
    }

    /**
     * Declares what the worker would, by letting it.
     */
    private function declare(): void
    {
        self::assertSame(0, $this->app->run('ws:consume', '--time-limit=1')->wait());
    }

    private function waitForConsumer(string $inbox = '.inbox'): void
    {
        Server::wait('the queues', function () use ($inbox): bool {
            try {
                $this->messages($inbox);

                return $this->messages('.events') >= 0;
            } catch (\AMQPException) {
                $this->connect();

                return false;
            }
        });
    }

    private function add(int $n, string $type = 'chat'): void
    {
        $this->publish(self::json($n, $type));
    }

    private function publish(string $body, string $suffix = '.inbox', ?string $key = null): void
    {
        $exchange = new \AMQPExchange($this->channel);
        $exchange->setName($this->names . $suffix);
        $id = json_decode($body, true)['event_id'] ?? null;
        $exchange->publish($body, $key ?? $this->names . $suffix, \AMQP_NOPARAM, ['delivery_mode' => 2] + (null === $id ? [] : ['message_id' => $id]));
    }

    private function queue(string $name): \AMQPQueue
    {
        $queue = new \AMQPQueue($this->channel);
        $queue->setName($name);

        return $queue;
    }

    private function messages(string $suffix): int
    {
        $queue = $this->queue($this->names . $suffix);
        $queue->setFlags(\AMQP_PASSIVE);

        return $queue->declareQueue();
    }

    /**
     * @return list<int>
     */
    private function numbers(): array
    {
        return array_map(static fn (string $line): int => (int) explode(' ', $line)[2], $this->app->events());
    }

    private static function json(int $n, string $type): string
    {
        return (string) json_encode(['event_id' => 'id-' . $n] + EventFactoryTest::message(['type' => $type, 'n' => $n]));
    }
}
