<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Consumer;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Consumer\Entry;
use Snoke\WsBundle\Consumer\SourceUnavailableException;
use Snoke\WsBundle\Consumer\Worker;
use Snoke\WsBundle\Consumer\WorkerOptions;
use Snoke\WsBundle\Event\EventFactory;
use Snoke\WsBundle\Event\WebsocketEvent;
use Snoke\WsBundle\Exception\UnprocessableEventException;
use Snoke\WsBundle\Handler\EventReceiverInterface;
use Snoke\WsBundle\Tests\Integration\App\RecordingLogger;
use Snoke\WsBundle\Tests\Unit\Event\EventFactoryTest;
use Symfony\Component\Messenger\Exception\UnrecoverableMessageHandlingException;
use Symfony\Contracts\Service\ResetInterface;

final class WorkerTest extends TestCase implements EventReceiverInterface, ResetInterface
{
    /** @var list<string> */
    private array $handled = [];

    /** @var array<string, list<\Throwable>> by event id */
    private array $failures = [];
    private int $resets = 0;
    private ?\Closure $during = null;
    private RecordingLogger $logger;

    protected function setUp(): void
    {
        $this->logger = new RecordingLogger();
    }

    public function receive(WebsocketEvent $event, string $via, array $attributes = []): bool
    {
        $this->handled[] = $event->eventId;
        if (null !== $this->during) {
            ($this->during)();
        }
        if ([] !== ($this->failures[$event->eventId] ?? [])) {
            throw array_shift($this->failures[$event->eventId]);
        }

        return true;
    }

    public function reset(): void
    {
        ++$this->resets;
    }

    public function testEventsAreHandledInOrderAcknowledgedAndServicesReset(): void
    {
        $source = new FakeSource([self::entry('a'), self::entry('b')]);
        self::assertSame(2, $this->consume($source));

        self::assertSame(['a', 'b'], $this->handled);
        self::assertSame(['done a', 'done b', 'closed'], $source->log);
        self::assertSame(2, $this->resets);
    }

    public function testWhatIsNoEventBecomesADeadLetterAndTheRestGoesOn(): void
    {
        $source = new FakeSource([
            new Entry('s', '1', null, 'raw', 1, problem: 'no field'),
            new Entry('s', '2', '17', '17', 1),
            self::entry('a'),
        ]);
        $this->consume($source);

        self::assertSame(['a'], $this->handled);
        self::assertSame(['dead 1 no field', 'dead 2 the event is not a JSON object, but int', 'done a', 'closed'], $source->log);
    }

    public function testAnUnknownTypeIsSkippedWithALine(): void
    {
        $source = new FakeSource([new Entry('s', '1', '{"type":"of_tomorrow"}', 'x', 1)]);
        $this->consume($source);

        self::assertSame(['done 1', 'closed'], $source->log);
        self::assertStringContainsString('events of type "of_tomorrow" are not known', $this->logger->text());
    }

    public function testAFailureIsTriedAgainLaterAndLater(): void
    {
        $this->failures['a'] = [new \RuntimeException('s3cret'), new \RuntimeException()];
        $source = new FakeSource([self::entry('a'), self::entry('a', 2), self::entry('a', 3)]);
        $this->consume($source, new WorkerOptions(limit: 3, retrySeconds: 1.0));

        self::assertSame(['a', 'a', 'a'], $this->handled);
        self::assertSame(['retry a', 'retry a', 'done a', 'closed'], $source->log);
        self::assertEqualsWithDelta(1.0, $source->pauses[0], 0.26);
        self::assertEqualsWithDelta(2.0, $source->pauses[1], 0.51);
        self::assertSame(3, $this->resets, 'services are reset after a failure too');
    }

    public function testTheLastTryEndsInADeadLetterWithoutTheExceptionsWords(): void
    {
        $this->failures['a'] = [new \RuntimeException('s3cret')];
        $source = new FakeSource([self::entry('a', 5)]);
        $this->consume($source);

        self::assertSame(['dead a 5 tries failed, the last by RuntimeException (a)', 'closed'], $source->log);
    }

    public function testAnEntryThatKillsItsWorkersIsNotHandledForEver(): void
    {
        $source = new FakeSource([self::entry('a', 6)]);
        $this->consume($source);

        self::assertSame([], $this->handled);
        self::assertSame(['dead a given to workers 5 times, and none came back from it (a)', 'closed'], $source->log);
    }

    public function testWhatIsHopelessIsNotTriedAgain(): void
    {
        $this->failures['a'] = [new UnprocessableEventException('no such room')];
        $this->failures['b'] = [new UnrecoverableMessageHandlingException('s3cret')];
        $source = new FakeSource([self::entry('a'), self::entry('b')]);
        $this->consume($source);

        self::assertSame([
            'dead a no such room (a)',
            'dead b ' . UnrecoverableMessageHandlingException::class . ' (b)',
            'closed',
        ], $source->log);
    }

    public function testABrokerThatIsAwayIsWaitedFor(): void
    {
        $source = new FakeSource([new SourceUnavailableException('away.'), new SourceUnavailableException('away.'), self::entry('a')]);
        $lines = [];
        $started = microtime(true);
        $this->consume($source, new WorkerOptions(limit: 1), static function (string $line) use (&$lines): void {
            $lines[] = $line;
        });

        self::assertSame(['closed', 'closed', 'done a', 'closed'], $source->log);
        self::assertGreaterThan(0.2, microtime(true) - $started);
        self::assertSame('warning: Events cannot be read: away. Trying again in 0.1 s.', $this->logger->lines[0]);
        self::assertStringStartsWith('notice:', $this->logger->lines[1]);
        self::assertSame('info: The broker is back.', $this->logger->lines[2]);
        self::assertContains('connected again', $lines);
    }

    public function testAnAcknowledgementThatFailsIsNoFailureOfTheHandler(): void
    {
        $source = new FakeSource([self::entry('a')]);
        $source->doneFails = new SourceUnavailableException('away.');
        $this->consume($source, new WorkerOptions(timeLimitSeconds: 0.3));

        self::assertSame(['a'], $this->handled);
        self::assertSame(['closed', 'closed'], $source->log);
    }

    /**
     * @requires extension pcntl
     */
    public function testSigtermEndsItAfterTheEventInHand(): void
    {
        $this->during = static fn () => posix_kill(getmypid(), \SIGTERM);
        $before = pcntl_signal_get_handler(\SIGTERM);
        $source = new FakeSource([self::entry('a'), self::entry('b')]);

        self::assertSame(1, $this->consume($source, new WorkerOptions()));
        self::assertSame(['done a', 'closed'], $source->log);
        self::assertSame($before, pcntl_signal_get_handler(\SIGTERM));
    }

    /**
     * @requires extension pcntl
     */
    public function testALongHandlerShowsThatItLives(): void
    {
        $this->during = static function (): void {
            $until = microtime(true) + 1.3;
            while (microtime(true) < $until) {
                usleep(50_000);
            }
        };
        $source = new FakeSource([self::entry('a')]);
        $this->consume($source, new WorkerOptions(limit: 1, keepAliveSeconds: 1.0));

        self::assertSame(['alive', 'done a', 'closed'], $source->log);
    }

    public function testLimits(): void
    {
        self::assertSame(1, $this->consume(new FakeSource([self::entry('a'), self::entry('b')]), new WorkerOptions(limit: 1)));
        self::assertSame(1, $this->consume(new FakeSource([self::entry('a'), self::entry('b')]), new WorkerOptions(memoryLimitBytes: 1)));
        $started = microtime(true);
        self::assertSame(0, $this->consume(new FakeSource([]), new WorkerOptions(timeLimitSeconds: 0.2)));
        self::assertGreaterThanOrEqual(0.2, microtime(true) - $started);
        self::assertLessThan(5.0, microtime(true) - $started);
    }

    public function testLinesHoldNoPayloadAndNoLetterThatCouldBreakThem(): void
    {
        $lines = [];
        $fields = EventFactoryTest::message(['type' => "chat\n<x>", 'payload' => 's3cret']);
        $this->consume(
            new FakeSource([new Entry('s', '1', (string) json_encode($fields), 'x', 1)]),
            new WorkerOptions(limit: 1, logLevel: 'notice'),
            static function (string $line) use (&$lines): void {
                $lines[] = $line;
            },
        );
        self::assertMatchesRegularExpression('/^s 1 message_received \(chat\?\?x\?\) of user 42 handled in \d+\.\d ms$/', $lines[0]);
        self::assertContains('notice: An event is handled.', $this->logger->lines);
        self::assertStringNotContainsString('s3cret', implode($lines) . $this->logger->text());
    }

    private function consume(FakeSource $source, ?WorkerOptions $options = null, ?\Closure $tell = null): int
    {
        $options ??= new WorkerOptions(limit: \count($source->entries));
        $worker = new Worker(new EventFactory(), $this, $this->logger, $this);

        return $worker->run($source, $options, $tell);
    }

    private static function entry(string $id, int $deliveries = 1): Entry
    {
        $json = (string) json_encode(['event_id' => $id] + EventFactoryTest::CONNECTED);

        return new Entry('s', $id, $json, $json, $deliveries);
    }
}
