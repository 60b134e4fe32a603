<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Consumer;

use Snoke\WsBundle\Consumer\Entry;
use Snoke\WsBundle\Consumer\EventSourceInterface;

/**
 * Gives what it is made with, and notes what is asked of it.
 */
final class FakeSource implements EventSourceInterface
{
    /** @var list<string> */
    public array $log = [];

    /** @var list<float> */
    public array $pauses = [];
    public ?\Throwable $doneFails = null;

    /**
     * @param list<Entry|\Throwable> $entries
     */
    public function __construct(public array $entries)
    {
    }

    public function type(): string
    {
        return 'fake';
    }

    public function describe(): string
    {
        return 'a list';
    }

    public function next(float $seconds): ?Entry
    {
        $next = array_shift($this->entries);
        if (null === $next) {
            usleep((int) (1e6 * min(0.05, $seconds)));
        }

        return $next instanceof \Throwable ? throw $next : $next;
    }

    public function done(Entry $entry): void
    {
        if (null !== $this->doneFails) {
            throw $this->doneFails;
        }
        $this->log[] = 'done ' . $entry->id;
    }

    public function retry(Entry $entry, float $seconds): void
    {
        $this->log[] = 'retry ' . $entry->id;
        $this->pauses[] = $seconds;
    }

    public function deadLetter(Entry $entry, string $reason, ?string $eventId = null): void
    {
        $this->log[] = 'dead ' . $entry->id . ' ' . $reason . (null === $eventId ? '' : ' (' . $eventId . ')');
    }

    public function keepAlive(): void
    {
        $this->log[] = 'alive';
    }

    public function close(): void
    {
        $this->log[] = 'closed';
    }
}
