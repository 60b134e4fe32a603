<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Consumer\Signals;
use Snoke\WsBundle\Tests\Integration\App\Process;
use Snoke\WsBundle\Tests\Support\RabbitMqServer;
use Snoke\WsBundle\Tests\Support\RedisServer;
use Snoke\WsBundle\Tests\Support\Server;
use Snoke\WsBundle\Tests\Unit\Event\EventFactoryTest;

/**
 * SIGTERM ends a worker with exit code 0 and in time, whatever it is doing, and nothing is lost or handled twice.
 *
 * @requires extension pcntl
 */
final class SignalsTest extends TestCase
{
    /** Longer than the longest read, and much shorter than the ten seconds that Docker gives. */
    private const BOUND_SECONDS = 3.0;

    private static ?RedisServer $redis = null;
    private static int $number = 0;
    private string $library;
    private string $names;
    private string $directory;

    /** @var list<Process> */
    private array $workers = [];
    private ?\Redis $client = null;
    private ?\AMQPChannel $channel = null;

    public static function tearDownAfterClass(): void
    {
        self::$redis?->remove();
        self::$redis = null;
    }

    protected function setUp(): void
    {
        $this->names = 'signals' . ++self::$number;
        $this->directory = Server::directory();
    }

    protected function tearDown(): void
    {
        foreach ($this->workers as $worker) {
            $worker->signal(\SIGKILL);
        }
        exec('rm -rf ' . escapeshellarg($this->directory));
    }

    /**
     * @dataProvider libraries
     */
    #[DataProvider('libraries')]
    public function testWhileItWaitsForEvents(string $library): void
    {
        $this->library = $library;
        foreach ([0, 350, 700] as $milliseconds) {
            $worker = $this->start();
            $this->waitUntilItWaits($worker);
            usleep(1000 * $milliseconds);
            $this->stop($worker, self::BOUND_SECONDS);
        }
        $this->add(1);
        $worker = $this->start();
        $this->waitForEvents(1);
        $this->stop($worker, self::BOUND_SECONDS);

        self::assertSame([1], $this->numbers());
        self::assertSame([0, 0], $this->left());
    }

    /**
     * @dataProvider libraries
     */
    #[DataProvider('libraries')]
    public function testWhileAHandlerRuns(string $library): void
    {
        $this->library = $library;
        $worker = $this->start();
        $this->waitUntilItWaits($worker);
        $this->add(1, 'slow');
        $this->add(2);
        $this->waitForEvents(1);
        $this->stop($worker, self::BOUND_SECONDS);

        self::assertSame([1], $this->numbers(), 'the one in hand is finished, and no other begun');
        self::assertSame([1, 0], $this->left(), 'it is acknowledged, and the other kept');
        $this->stop($this->startAndWaitForEvents(2), self::BOUND_SECONDS);
        self::assertSame([1, 2], $this->numbers());
        self::assertSame([0, 0], $this->left());
    }

    /**
     * @dataProvider libraries
     */
    #[DataProvider('libraries')]
    public function testAtAnyMomentUnderLoad(string $library): void
    {
        $this->library = $library;
        // Declares what there must be.
        $worker = $this->start();
        $this->waitUntilItWaits($worker);
        $this->stop($worker, self::BOUND_SECONDS);
        $count = 3000;
        for ($n = 1; $n <= $count; ++$n) {
            $this->add($n);
        }
        for ($round = 0; $round < 8; ++$round) {
            $worker = $this->startAndWaitForEvents(\count($this->numbers()) + 1);
            usleep(random_int(0, 10_000));
            $this->stop($worker, self::BOUND_SECONDS);
        }
        self::assertLessThan($count, \count($this->numbers()), 'something must be left');
        $this->stop($this->startAndWaitForEvents($count), self::BOUND_SECONDS);

        self::assertSame(range(1, $count), $this->numbers(), 'each once, in order');
        self::assertSame([0, 0], $this->left());
    }

    /**
     * @dataProvider libraries
     */
    #[DataProvider('libraries')]
    public function testWhileABrokerAcceptsAndSaysNothing(string $library): void
    {
        $this->library = $library;
        $silent = stream_socket_server('tcp://127.0.0.1:0');
        self::assertIsResource($silent);
        $address = stream_socket_get_name($silent, false);
        $worker = $this->start(\in_array($library, ['ext-redis', 'Predis'], true) ? "redis://$address/0" : "amqp://$address");
        $worker->waitFor('started');
        usleep(300_000);

        // Here it is the time-out of the answer that counts. That of ext-amqp's handshake is 12 seconds, always.
        $this->stop($worker, 'ext-amqp' === $library ? 13.0 : 9.5);
    }

    /**
     * @return iterable<string, array{string}>
     */
    public static function libraries(): iterable
    {
        foreach (['ext-redis', 'Predis', 'php-amqplib', 'ext-amqp'] as $library) {
            yield $library => [$library];
        }
    }

    /**
     * PHP itself loses a signal that comes while an extension waits, if the extension then throws and that is caught.
     */
    public function testASignalIsNotLostWhereAnExtensionThrows(): void
    {
        $silent = stream_socket_server('tcp://127.0.0.1:0');
        self::assertIsResource($silent);
        $redis = new \Redis();
        $redis->connect('127.0.0.1', (int) substr((string) strrchr((string) stream_socket_get_name($silent, false), ':'), 1), 1, null, 0, 0.5);
        $stopped = false;
        $signals = new Signals(static function () use (&$stopped): void {
            $stopped = true;
        });
        $sender = proc_open(['sh', '-c', 'sleep 0.2; kill -TERM ' . getmypid()], [], $pipes);
        self::assertIsResource($sender);
        $hasThrown = false;
        try {
            $signals->deferred(static function () use ($redis): void {
                try {
                    $redis->rawCommand('GET', 'x');
                } catch (\RedisException $exception) {
                    throw new \RuntimeException('as the client of the bundle does', 0, $exception);
                }
            });
        } catch (\RuntimeException) {
            $hasThrown = true;
        } finally {
            $signals->restore();
            proc_close($sender);
        }

        self::assertTrue($hasThrown);
        self::assertTrue($stopped);
    }

    private function start(?string $dsn = null): Process
    {
        return $this->workers[] = new Process(
            [\PHP_BINARY, __DIR__ . '/App/worker.php', $this->library, $dsn ?? $this->dsn(), $this->names, $this->directory],
            [],
            $this->directory . '/output-' . \count($this->workers),
        );
    }

    private function startAndWaitForEvents(int $count): Process
    {
        $worker = $this->start();
        $this->waitForEvents($count);

        return $worker;
    }

    private function stop(Process $worker, float $bound): void
    {
        $started = microtime(true);
        $worker->signal(\SIGTERM);
        $exit = $worker->wait();
        self::assertSame(0, $exit, $worker->output());
        self::assertLessThan($bound, microtime(true) - $started);
        self::assertStringContainsString('stopped after', $worker->output());
    }

    private function isRedis(): bool
    {
        return \in_array($this->library, ['ext-redis', 'Predis'], true);
    }

    private function dsn(): string
    {
        return $this->isRedis() ? (self::$redis ??= new RedisServer())->dsn() : RabbitMqServer::shared()->dsn();
    }

    /**
     * Waits until it is in a read that the broker does not answer.
     */
    private function waitUntilItWaits(Process $worker): void
    {
        $worker->waitFor('started');
        Server::wait('a blocking read', function () use ($worker): bool {
            if ($this->isRedis()) {
                foreach ($this->redis()->client('LIST') as $client) {
                    if (str_contains($client['flags'], 'b') && 'xreadgroup' === $client['cmd']) {
                        return true;
                    }
                }

                return false;
            }
            $state = (string) @file_get_contents('/proc/' . $worker->pid() . '/stat');
            try {
                $queue = $this->queue();
                $queue->setFlags(\AMQP_PASSIVE);
                $queue->declareQueue();
            } catch (\AMQPException) {
                return false;
            }
            usleep(200_000);

            return str_contains($state, ') S ');
        });
    }

    private function add(int $n, string $type = 'chat'): void
    {
        $json = (string) json_encode(['event_id' => 'id-' . $n] + EventFactoryTest::message(['type' => $type, 'n' => $n]));
        if ($this->isRedis()) {
            $this->redis()->xAdd($this->names . '.inbox', '*', ['data' => $json]);
        } else {
            $this->exchange()->publish($json, $this->names . '.inbox', \AMQP_NOPARAM, ['delivery_mode' => 2, 'message_id' => 'id-' . $n]);
        }
    }

    /**
     * @return array{int, int} what is still there, and what of it nobody else would get
     */
    private function left(): array
    {
        if ($this->isRedis()) {
            $length = (int) $this->redis()->xLen($this->names . '.inbox');
            $held = 0;
            // What was given back counts as idle for long.
            foreach ($this->redis()->xPending($this->names . '.inbox', 'symfony', '-', '+', 10_000) as [, , $idle]) {
                $held += $idle < 60_000 ? 1 : 0;
            }

            return [$length, $held];
        }
        $queue = $this->queue();
        $queue->setFlags(\AMQP_PASSIVE);
        usleep(100_000);

        return [$queue->declareQueue(), 0];
    }

    private function redis(): \Redis
    {
        if (null === $this->client) {
            $this->client = new \Redis();
            $this->client->connect('127.0.0.1', (int) self::$redis?->port);
        }

        return $this->client;
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

    private function queue(): \AMQPQueue
    {
        $queue = new \AMQPQueue($this->channel());
        $queue->setName($this->names . '.inbox');

        return $queue;
    }

    private function exchange(): \AMQPExchange
    {
        $exchange = new \AMQPExchange($this->channel());
        $exchange->setName($this->names . '.inbox');

        return $exchange;
    }

    private function waitForEvents(int $count): void
    {
        Server::wait('events', fn (): bool => \count($this->numbers()) >= $count);
    }

    /**
     * @return list<int>
     */
    private function numbers(): array
    {
        return array_map(static fn (string $line): int => (int) explode(' ', $line)[2], @file($this->directory . '/events') ?: []);
    }
}
