<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer;

use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;
use Snoke\WsBundle\Event\EventFactoryInterface;
use Snoke\WsBundle\Event\WebsocketEvent;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Snoke\WsBundle\Exception\MalformedEventException;
use Snoke\WsBundle\Exception\UnknownEventTypeException;
use Snoke\WsBundle\Exception\UnprocessableEventException;
use Snoke\WsBundle\Handler\EventReceiver;
use Snoke\WsBundle\Handler\EventReceiverInterface;
use Snoke\WsBundle\Tracing\TracerFactory;
use Symfony\Component\Messenger\Exception\UnrecoverableExceptionInterface;
use Symfony\Contracts\Service\ResetInterface;

/**
 * Reads events one after the other and has them handled, until it is told to stop.
 *
 * An entry is acknowledged when it was handled, not before. One that cannot be an event becomes a dead letter at once,
 * one that fails after its tries; meanwhile it holds back only its own stream.
 */
final class Worker
{
    private const IDLE_SECONDS = 1.0;
    private const RECONNECT_SECONDS = 0.1;
    private const RECONNECT_MAX_SECONDS = 5.0;

    private bool $shouldStop = false;

    /**
     * @param ResetInterface|null $services brings services back to how they were, after each event
     * @param TracerFactory|null  $tracers  exports spans now and then
     */
    public function __construct(
        private readonly EventFactoryInterface $events,
        private readonly EventReceiverInterface $receiver,
        private readonly LoggerInterface $logger = new NullLogger(),
        private readonly ?ResetInterface $services = null,
        private readonly ?TracerFactory $tracers = null,
    ) {
    }

    /**
     * Runs until a limit is reached or {@see stop} is called, by a signal too.
     *
     * @param (\Closure(string, bool): void)|null $tell takes lines for the person who watches, and whether each of them
     *                                                  tells of trouble
     *
     * @return int entries that were dealt with
     */
    public function run(EventSourceInterface $source, WorkerOptions $options, ?\Closure $tell = null): int
    {
        $this->shouldStop = false;
        $tell ??= static fn (string $line, bool $isTrouble) => null;
        $started = microtime(true);
        $count = 0;
        $failures = 0;
        $signals = new Signals($this->stop(...));
        try {
            while (!$this->shouldStop) {
                try {
                    $wait = self::IDLE_SECONDS;
                    if (null !== $options->timeLimitSeconds) {
                        $wait = min($wait, $options->timeLimitSeconds - (microtime(true) - $started));
                    }
                    $entry = $wait > 0.0 ? $signals->deferred(static fn (): ?Entry => $source->next($wait)) : null;
                    if (0 !== $failures) {
                        $this->logger->info('The broker is back.', ['source' => $source->type()]);
                        $tell('connected again', true);
                        $failures = 0;
                    }
                    if (null !== $entry) {
                        $signals->deferred(fn () => $this->handle($source, $entry, $options, $signals, $tell));
                        ++$count;
                    }
                } catch (SourceUnavailableException $exception) {
                    ++$failures;
                    $pause = $this->reconnectPause($failures);
                    $this->logger->log($failures > 1 ? 'notice' : 'warning', 'Events cannot be read: {reason} Trying again in {seconds} s.', [
                        'reason' => $exception->getMessage(),
                        'seconds' => round($pause, 1),
                        'source' => $source->type(),
                    ]);
                    $tell(sprintf('%s Trying again in %.1f s.', $exception->getMessage(), $pause), true);
                    $signals->deferred($source->close(...));
                    $this->sleep($pause);
                }
                $this->tracers?->tick();
                $reason = $this->limitReached($options, $count, $started);
                if (null !== $reason) {
                    $this->logger->info('The worker ends: {reason}.', ['reason' => $reason]);
                    $tell(sprintf('ends: %s', $reason), false);
                    break;
                }
            }
        } finally {
            $source->close();
            $signals->restore();
        }

        return $count;
    }

    /**
     * Ends the worker once the entry in hand is dealt with.
     */
    public function stop(): void
    {
        $this->shouldStop = true;
    }

    private function handle(
        EventSourceInterface $source,
        Entry $entry,
        WorkerOptions $options,
        Signals $signals,
        \Closure $tell,
    ): void {
        $started = microtime(true);
        $where = ['source' => $source->type(), 'from' => $entry->from, 'entry' => $entry->id];
        $event = null;
        $reason = $entry->problem;
        if (null === $reason) {
            try {
                $event = $this->events->fromJson((string) $entry->body, $entry->replayed, $entry->traceparent);
            } catch (MalformedEventException $exception) {
                $reason = $exception->getMessage();
            } catch (UnknownEventTypeException $exception) {
                $this->logger->notice('An entry is skipped: {reason}.', ['reason' => $exception->getMessage()] + $where);
                $tell(sprintf('%s %s skipped: %s', $entry->from, $entry->id, $exception->getMessage()), true);
                $source->done($entry);

                return;
            }
        }
        if (null === $event) {
            $this->bury($source, $entry, (string) $reason, null, $tell, $where);

            return;
        }
        $where += EventReceiver::context($event, $source->type());
        if ($entry->deliveries > $options->maxDeliveries) {
            $reason = sprintf('given to workers %d times, and none came back from it', $entry->deliveries - 1);
            $this->bury($source, $entry, $reason, $event, $tell, $where);

            return;
        }
        try {
            $signals->during($options->keepAliveSeconds, $source->keepAlive(...), fn () => $this->receiver->receive(
                $event,
                $source->type(),
                [
                    'messaging.destination.name' => $entry->destination ?? $entry->from,
                    'wsgw.delivery_attempt' => $entry->deliveries > 1 ? $entry->deliveries : null,
                ],
            ));
        } catch (\Throwable $exception) {
            $this->failed($source, $entry, $event, $exception, $options, $tell, $where);

            return;
        } finally {
            $this->services?->reset();
        }
        $source->done($entry);
        $this->logger->log($options->logLevel, 'An event is handled.', $where + [
            'milliseconds' => round(1000 * (microtime(true) - $started), 1),
        ]);
        $tell(sprintf(
            '%s %s %s of user %s handled in %.1f ms',
            $entry->from,
            $entry->id,
            self::name($event),
            $event->userId,
            1000 * (microtime(true) - $started),
        ), false);
    }

    /**
     * @param array<string, mixed> $where
     */
    private function failed(
        EventSourceInterface $source,
        Entry $entry,
        WebsocketEvent $event,
        \Throwable $exception,
        WorkerOptions $options,
        \Closure $tell,
        array $where,
    ): void {
        $hopeless = $exception instanceof UnprocessableEventException
            || $exception instanceof UnrecoverableExceptionInterface;
        if ($hopeless || $entry->deliveries >= $options->maxDeliveries) {
            // Only what is thrown for the purpose may be kept in words: others may hold what a client sent.
            $what = $exception instanceof UnprocessableEventException ? $exception->getMessage() : $exception::class;
            $reason = $hopeless ? $what : sprintf('%d tries failed, the last by %s', $entry->deliveries, $what);
            $this->bury($source, $entry, $reason, $event, $tell, $where + ['exception' => $exception]);

            return;
        }
        $seconds = min($options->retryMaxSeconds, $options->retrySeconds * 2 ** ($entry->deliveries - 1));
        $seconds *= 0.75 + 0.5 * mt_rand() / mt_getrandmax();
        $this->logger->error('A handler failed, try {try} of {tries}; again in {seconds} s.', $where + [
            'try' => $entry->deliveries,
            'tries' => $options->maxDeliveries,
            'seconds' => round($seconds, 1),
            'exception' => $exception,
        ]);
        $tell(sprintf(
            '%s %s %s failed by %s, try %d of %d; again in %.1f s, and what comes after it in %1$s waits',
            $entry->from,
            $entry->id,
            self::name($event),
            $exception::class,
            $entry->deliveries,
            $options->maxDeliveries,
            $seconds,
        ), true);
        $source->retry($entry, $seconds);
    }

    /**
     * @param array<string, mixed> $where
     */
    private function bury(
        EventSourceInterface $source,
        Entry $entry,
        string $reason,
        ?WebsocketEvent $event,
        \Closure $tell,
        array $where,
    ): void {
        $source->deadLetter($entry, $reason, $event?->eventId);
        $this->logger->error('An entry is moved to the dead letters: {reason}.', ['reason' => $reason] + $where);
        $tell(sprintf('%s %s to the dead letters: %s', $entry->from, $entry->id, $reason), true);
    }

    private static function name(WebsocketEvent $event): string
    {
        $type = $event instanceof WebsocketMessageReceivedEvent ? $event->messageType() : null;

        // A type is what a client chose.
        return $event->type() . (null === $type ? '' : ' (' . (string) preg_replace('/[^\w.:-]/', '?', substr($type, 0, 40)) . ')');
    }

    private function limitReached(WorkerOptions $options, int $count, float $started): ?string
    {
        return match (true) {
            null !== $options->limit && $count >= $options->limit => sprintf('%d entries are dealt with', $count),
            null !== $options->timeLimitSeconds && microtime(true) - $started >= $options->timeLimitSeconds => 'its time is over',
            null !== $options->memoryLimitBytes && memory_get_usage(true) >= $options->memoryLimitBytes => sprintf(
                'it uses %d MiB of memory',
                memory_get_usage(true) >> 20,
            ),
            default => null,
        };
    }

    private function reconnectPause(int $failures): float
    {
        $seconds = min(self::RECONNECT_MAX_SECONDS, self::RECONNECT_SECONDS * 2 ** min(10, $failures - 1));

        return $seconds * (0.75 + 0.5 * mt_rand() / mt_getrandmax());
    }

    private function sleep(float $seconds): void
    {
        $until = microtime(true) + $seconds;
        while (!$this->shouldStop && ($left = $until - microtime(true)) > 0) {
            usleep(max(0, (int) (1e6 * min(0.1, $left))));
        }
    }
}
