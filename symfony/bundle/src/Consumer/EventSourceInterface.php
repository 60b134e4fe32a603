<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer;

/**
 * Where a worker reads events from. It gives the entries of one stream in order, and the next one of a stream only when
 * the one before is done, dead or, having failed, due again.
 *
 * Every method may throw {@see SourceUnavailableException}; the worker then closes the source, waits and goes on.
 */
interface EventSourceInterface
{
    /**
     * Gives the name of the kind, as `events.type` has it.
     */
    public function type(): string;

    /**
     * Says in words what is read, for the person who started the worker.
     */
    public function describe(): string;

    /**
     * Gives what comes next, connecting first if need be; null if nothing came in this time.
     */
    public function next(float $seconds): ?Entry;

    /**
     * Takes note that an entry was handled. If that fails, the entry is not given again all the same.
     */
    public function done(Entry $entry): void;

    /**
     * Holds an entry that failed back, and all after it in its stream.
     *
     * @param float $seconds until it is given again
     */
    public function retry(Entry $entry, float $seconds): void;

    /**
     * Moves an entry to the dead letters.
     */
    public function deadLetter(Entry $entry, string $reason, ?string $eventId = null): void;

    /**
     * Shows that the worker lives, while an entry takes long.
     */
    public function keepAlive(): void;

    /**
     * Gives back what is not handled, and disconnects. The next call connects again.
     */
    public function close(): void;
}
