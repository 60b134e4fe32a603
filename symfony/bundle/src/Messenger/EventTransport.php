<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Messenger;

use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;
use Snoke\WsBundle\Consumer\Entry;
use Snoke\WsBundle\Consumer\EventSourceInterface;
use Snoke\WsBundle\Consumer\SourceUnavailableException;
use Snoke\WsBundle\Event\EventFactoryInterface;
use Snoke\WsBundle\Exception\MalformedEventException;
use Snoke\WsBundle\Exception\UnknownEventTypeException;
use Symfony\Component\Messenger\Envelope;
use Symfony\Component\Messenger\Exception\LogicException;
use Symfony\Component\Messenger\Exception\TransportException;
use Symfony\Component\Messenger\Stamp\DelayStamp;
use Symfony\Component\Messenger\Stamp\RedeliveryStamp;
use Symfony\Component\Messenger\Transport\TransportInterface;

/**
 * Lets `messenger:consume` read what `ws:consume` reads, in the same way: what is no event becomes a dead letter instead
 * of holding the stream up, and a retry keeps its place.
 */
final class EventTransport implements TransportInterface
{
    private const WAIT_SECONDS = 0.05;

    /** @var \WeakMap<Entry, true> entries that are to be tried again, and hence not done */
    private readonly \WeakMap $retried;

    public function __construct(
        private readonly EventSourceInterface $source,
        private readonly EventFactoryInterface $events,
        private readonly LoggerInterface $logger = new NullLogger(),
    ) {
        $this->retried = new \WeakMap();
    }

    public function __destruct()
    {
        try {
            $this->source->close();
        } catch (\Throwable) {
            // Others take over what it had.
        }
    }

    /**
     * @param int $fetchSize a hint of Symfony 8.1; one at a time keeps the order where several workers read
     *
     * @return list<Envelope>
     */
    public function get(int $fetchSize = 1): iterable
    {
        return $this->guarded($this->next(...));
    }

    public function ack(Envelope $envelope): void
    {
        $this->guarded(fn () => $this->source->done(self::entry($envelope)));
    }

    public function reject(Envelope $envelope): void
    {
        $entry = self::entry($envelope);
        if (isset($this->retried[$entry])) {
            unset($this->retried[$entry]);

            return;
        }
        // Messenger has it in its failure transport by now, if there is one.
        $this->guarded(fn () => $this->source->done($entry));
    }

    public function send(Envelope $envelope): Envelope
    {
        $stamp = $envelope->last(EntryStamp::class);
        if (!$stamp instanceof EntryStamp) {
            throw new LogicException('Only the gateway sends to this transport: route your messages to another.');
        }
        $delay = $envelope->last(DelayStamp::class);
        $this->guarded(fn () => $this->source->retry(
            $stamp->entry,
            $delay instanceof DelayStamp ? max(0, $delay->getDelay()) / 1000 : 0.0,
        ));
        $this->retried->offsetSet($stamp->entry, true);

        return $envelope;
    }

    /**
     * @return list<Envelope> one at most
     */
    private function next(): array
    {
        while (null !== $entry = $this->source->next(self::WAIT_SECONDS)) {
            $envelope = $this->envelope($entry);
            if (null !== $envelope) {
                return [$envelope];
            }
        }

        return [];
    }

    private function envelope(Entry $entry): ?Envelope
    {
        $reason = $entry->problem;
        if (null === $reason) {
            try {
                $event = $this->events->fromJson((string) $entry->body, $entry->replayed, $entry->traceparent);
                $stamps = [new EntryStamp($entry)];
                if ($entry->deliveries > 1) {
                    $stamps[] = new RedeliveryStamp($entry->deliveries - 1);
                }

                return new Envelope($event, $stamps);
            } catch (MalformedEventException $exception) {
                $reason = $exception->getMessage();
            } catch (UnknownEventTypeException $exception) {
                $this->logger->notice('An entry is skipped: {reason}.', ['reason' => $exception->getMessage()]);
                $this->source->done($entry);

                return null;
            }
        }
        $this->source->deadLetter($entry, $reason);
        $this->logger->error('An entry is moved to the dead letters: {reason}.', [
            'reason' => $reason,
            'from' => $entry->from,
            'entry' => $entry->id,
        ]);

        return null;
    }

    private static function entry(Envelope $envelope): Entry
    {
        $stamp = $envelope->last(EntryStamp::class);

        return $stamp instanceof EntryStamp
            ? $stamp->entry
            : throw new LogicException('The envelope was not read by this transport.');
    }

    /**
     * @template T
     *
     * @param \Closure(): T $operation
     *
     * @return T
     */
    private function guarded(\Closure $operation): mixed
    {
        try {
            return $operation();
        } catch (SourceUnavailableException $exception) {
            // Messenger's worker ends by it, and its supervisor starts it again.
            $this->source->close();
            throw new TransportException($exception->getMessage(), 0, $exception);
        }
    }
}
