<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer\Redis;

use Snoke\WsBundle\Consumer\ConsumerName;
use Snoke\WsBundle\Consumer\Entry;
use Snoke\WsBundle\Consumer\EventSourceInterface;
use Snoke\WsBundle\Consumer\SourceUnavailableException;
use Snoke\WsBundle\Exception\RedisException;
use Snoke\WsBundle\Redis\RedisClientInterface;

/**
 * Reads Redis streams with a consumer group.
 *
 * Redis keeps what a worker took and did not acknowledge. It is taken over at once from a worker that this host no
 * longer runs, and otherwise from one that gave no sign of life for `claim_idle_seconds`. Taking over does not count as
 * a delivery, only handling does, so that an entry that kills its workers does not drag those behind it along.
 */
final class RedisStreamSource implements EventSourceInterface
{
    private const DISCOVER_SECONDS = 5.0;
    private const CLAIM_SECONDS = 15.0;
    private const MAX_BLOCK_SECONDS = 1.0;
    /** Idle consumers without entries are forgotten after this many times `claim_idle_seconds`. */
    private const FORGET_FACTOR = 60;

    /** @var array<string, StreamQueue> */
    private array $queues = [];

    /** @var list<string> */
    private array $patterns = [];

    /** @var array<string, true> streams that are known to have the group */
    private array $ready = [];
    private float $discoverAt = 0.0;
    private readonly ConsumerGroup $group;

    public function __construct(
        RedisClientInterface $redis,
        private readonly RedisStreamSettings $settings,
    ) {
        $this->group = new ConsumerGroup($redis, $settings);
        foreach ($settings->streams as $stream) {
            if (str_contains($stream, '*')) {
                $this->patterns[] = $stream;
            } elseif ('' !== $stream) {
                $this->queues[$stream] = new StreamQueue($stream);
            }
        }
    }

    public function type(): string
    {
        return 'redis_stream';
    }

    public function describe(): string
    {
        return sprintf(
            'the Redis streams %s, as consumer "%s" of the group "%s"',
            implode(', ', $this->settings->streams),
            $this->settings->consumer,
            $this->settings->group,
        );
    }

    public function next(float $seconds): ?Entry
    {
        $deadline = microtime(true) + $seconds;

        return $this->guarded(function () use ($deadline): ?Entry {
            do {
                try {
                    $this->discover();
                    foreach ($this->queues as $queue) {
                        $this->prepare($queue);
                    }
                    while (null !== $queue = $this->oldest()) {
                        if (null !== $entry = $this->head($queue)) {
                            return $entry;
                        }
                    }
                    $this->read($deadline);
                } catch (RedisException $exception) {
                    if (!\in_array($exception->code(), ['NOGROUP', 'UNBLOCKED'], true)) {
                        throw $exception;
                    }
                    // Somebody removed a stream or a group, or Redis came back empty: what was taken from it is void.
                    $this->ready = [];
                    foreach ($this->queues as $queue) {
                        $queue->forget();
                    }
                    usleep(10_000);
                }
            } while (microtime(true) < $deadline || null !== $this->oldest());

            return null;
        });
    }

    public function done(Entry $entry): void
    {
        $queue = $this->queue($entry);
        // First, so that it is not handled again should Redis be away just now.
        $queue->handled[$entry->id] = true;
        $queue->settled($entry->id);
        $this->guarded(fn () => $this->acknowledge($queue, $entry->id));
    }

    public function retry(Entry $entry, float $seconds): void
    {
        $queue = $this->queue($entry);
        // Read again when it is due, which counts the delivery.
        $queue->entries[$entry->id] = null;
        $queue->pausedUntil = microtime(true) + $seconds;
    }

    public function deadLetter(Entry $entry, string $reason, ?string $eventId = null): void
    {
        $queue = $this->queue($entry);
        $this->guarded(fn () => $this->group->bury($entry, $reason, $eventId));
        $queue->settled($entry->id);
    }

    public function keepAlive(): void
    {
        $this->guarded(function (): void {
            foreach ($this->queues as $queue) {
                $this->refresh($queue);
            }
        });
    }

    public function close(): void
    {
        try {
            foreach ($this->queues as $queue) {
                $this->giveBack($queue);
            }
        } catch (RedisException) {
            // What is not given back is taken over by others later.
        }
        foreach ($this->queues as $queue) {
            $queue->forget();
        }
        $this->ready = [];
        $this->discoverAt = 0.0;
        $this->group->disconnect();
    }

    /**
     * Looks for streams that match the patterns.
     */
    private function discover(): void
    {
        if ([] === $this->patterns || microtime(true) < $this->discoverAt) {
            return;
        }
        $started = microtime(true);
        foreach ($this->patterns as $pattern) {
            foreach ($this->group->streams($pattern) as $name) {
                if ($name !== $this->settings->deadLetterStream) {
                    $this->queues[$name] ??= new StreamQueue($name);
                }
            }
        }
        // Looking through very many keys must not become what Redis mostly does.
        $now = microtime(true);
        $this->discoverAt = $now + max(self::DISCOVER_SECONDS, 50 * ($now - $started));
    }

    private function prepare(StreamQueue $queue): void
    {
        if (!isset($this->ready[$queue->stream])) {
            $this->group->create($queue->stream, $queue->lastId);
            $this->ready[$queue->stream] = true;
        }
        if ([] !== $queue->entries) {
            $age = microtime(true) - $queue->refreshedAt;
            if ($age > 0.9 * $this->settings->claimIdleSeconds) {
                // Others may have them by now: what is still this worker's is found again below.
                $queue->forget();
            } elseif ($age > $this->settings->claimIdleSeconds / 3) {
                $this->refresh($queue);
            }
        }
        if ([] === $queue->entries && $queue->hasForgotten) {
            $queue->hasForgotten = 0 < $this->take($queue, $this->group->takeFrom($queue->stream, $this->settings->consumer));
        }
        if ([] === $queue->entries && microtime(true) >= $queue->claimAt) {
            $taken = $this->takeOver($queue);
            $queue->claimAt = 0 < $taken ? 0.0 : microtime(true) + min(self::CLAIM_SECONDS, $this->settings->claimIdleSeconds / 2);
        }
    }

    /**
     * Takes what dead workers left, and forgets those that have nothing.
     *
     * @return int entries that were taken
     */
    private function takeOver(StreamQueue $queue): int
    {
        $idleMilliseconds = (int) (1000 * $this->settings->claimIdleSeconds);
        $taken = 0;
        $isLeft = false;
        foreach ($this->group->others($queue->stream) as $other) {
            $isDead = ConsumerName::isDead($other['name']);
            if (0 < $other['pending']) {
                if ($isDead) {
                    $taken += $this->take($queue, $this->group->takeFrom($queue->stream, $other['name']));
                } else {
                    $isLeft = true;
                }
            } elseif ($isDead || $other['idle'] > self::FORGET_FACTOR * $idleMilliseconds) {
                $this->group->forget($queue->stream, $other['name'], $isDead ? 0 : self::FORGET_FACTOR * $idleMilliseconds);
            }
        }
        $cursor = '0-0';
        while ($isLeft && 0 === $taken) {
            [$cursor, $ids] = $this->group->takeIdle($queue->stream, $idleMilliseconds, $cursor);
            $taken += $this->take($queue, $ids);
            $isLeft = '0-0' !== $cursor;
        }

        return $taken;
    }

    /**
     * @param list<string> $ids
     */
    private function take(StreamQueue $queue, array $ids): int
    {
        if ([] === $ids) {
            return 0;
        }
        $count = 0;
        foreach ($ids as $id) {
            if (!\array_key_exists($id, $queue->entries)) {
                $queue->entries[$id] = null;
                ++$count;
            }
        }
        uksort($queue->entries, StreamQueue::compare(...));
        $queue->refreshedAt = microtime(true);

        return $count;
    }

    /**
     * The stream whose next entry is the oldest of all that may be given now: ids are times.
     */
    private function oldest(): ?StreamQueue
    {
        $oldest = null;
        $now = microtime(true);
        foreach ($this->queues as $queue) {
            $head = $queue->head();
            if (null === $head || $queue->pausedUntil > $now) {
                continue;
            }
            if (null === $oldest || StreamQueue::compare($head, (string) $oldest->head()) < 0) {
                $oldest = $queue;
            }
        }

        return $oldest;
    }

    /**
     * Gives the first entry of a queue; null if it turns out to be gone or handled.
     */
    private function head(StreamQueue $queue): ?Entry
    {
        $id = (string) $queue->head();
        if (isset($queue->handled[$id])) {
            unset($queue->entries[$id]);
            $this->acknowledge($queue, $id);

            return null;
        }
        $entry = $queue->entries[$id];
        if (null !== $entry) {
            return $entry;
        }
        $entry = $this->group->entry($queue->stream, $id);
        if (null === $entry) {
            unset($queue->entries[$id]);

            return null;
        }

        return $queue->entries[$id] = $entry;
    }

    /**
     * Waits for new entries of the streams that have none in hand.
     */
    private function read(float $deadline): void
    {
        $now = microtime(true);
        $until = min($deadline, $now + min(self::MAX_BLOCK_SECONDS, $this->settings->claimIdleSeconds / 4));
        $names = [];
        foreach ($this->queues as $queue) {
            if ([] !== $queue->entries) {
                $until = min($until, max($now, $queue->pausedUntil));
            } else {
                $names[] = $queue->stream;
            }
        }
        $milliseconds = (int) (1000 * max(0.0, $until - $now));
        if ([] === $names) {
            usleep(1000 * max(1, $milliseconds));

            return;
        }
        foreach ($this->group->read($names, $milliseconds) as $stream => $entries) {
            $queue = $this->queues[$stream];
            $queue->refreshedAt = microtime(true);
            foreach ($entries as $entry) {
                $queue->entries[$entry->id] = $entry;
            }
        }
    }

    private function acknowledge(StreamQueue $queue, string $id): void
    {
        $this->group->acknowledge($queue->stream, $id);
        unset($queue->handled[$id]);
    }

    /**
     * Tells Redis that the entries in hand are still wanted.
     */
    private function refresh(StreamQueue $queue): void
    {
        if ([] === $queue->entries) {
            return;
        }
        $this->group->keep($queue->stream, $queue->ids());
        $queue->refreshedAt = microtime(true);
    }

    private function giveBack(StreamQueue $queue): void
    {
        if ([] !== $queue->entries && isset($this->ready[$queue->stream])) {
            $this->group->giveBack($queue->stream, $queue->ids());
        }
    }

    private function queue(Entry $entry): StreamQueue
    {
        return $this->queues[$entry->from];
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
        } catch (RedisException $exception) {
            throw new SourceUnavailableException(rtrim($exception->getMessage(), '.') . '.', 0, $exception);
        }
    }
}
