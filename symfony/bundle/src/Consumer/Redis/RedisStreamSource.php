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

    /** Acknowledges an entry, and removes it if wanted. */
    private const ACK = <<<'LUA'
        local acked = redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
        if ARGV[3] == '1' then redis.call('XDEL', KEYS[1], ARGV[2]) end
        return acked
        LUA;

    /** Keeps a dead letter, and only then acknowledges the entry. */
    private const BURY = <<<'LUA'
        local add = {'XADD', KEYS[2], '*'}
        for i = 4, #ARGV do add[#add + 1] = ARGV[i] end
        redis.call(unpack(add))
        redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
        if ARGV[3] == '1' then redis.call('XDEL', KEYS[1], ARGV[2]) end
        return 1
        LUA;

    /** Removes a consumer, unless it has come to have entries meanwhile. */
    private const FORGET = <<<'LUA'
        for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
            local facts = {}
            for i = 1, #consumer, 2 do facts[consumer[i]] = consumer[i + 1] end
            if facts['name'] == ARGV[2] and facts['pending'] == 0 and facts['idle'] >= tonumber(ARGV[3]) then
                return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
            end
        end
        return 0
        LUA;

    /** @var array<string, StreamQueue> */
    private array $queues = [];

    /** @var list<string> */
    private array $patterns = [];

    /** @var array<string, true> streams that are known to have the group */
    private array $ready = [];
    private float $discoverAt = 0.0;

    public function __construct(
        private readonly RedisClientInterface $redis,
        private readonly RedisStreamSettings $settings,
    ) {
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
        $this->guarded(fn () => $this->redis->call(
            'EVAL',
            self::BURY,
            2,
            $queue->stream,
            $this->settings->deadLetterStream,
            $this->settings->group,
            $entry->id,
            $this->settings->deleteAfterAck ? '1' : '0',
            'reason',
            $reason,
            'raw',
            $entry->raw,
            ...(null === $eventId ? [] : ['event_id', $eventId]),
            ...['sink', 'redis', 'failed_at', (string) time()],
            ...['stream', $queue->stream, 'entry', $entry->id, 'deliveries', (string) $entry->deliveries],
        ));
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
        $this->redis->disconnect();
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
            $cursor = '0';
            do {
                // Everything but * is meant as it is written.
                $match = preg_replace('/[?\[\]\\\\]/', '\\\\$0', $pattern);
                [$cursor, $names] = $this->redis->call('SCAN', (string) $cursor, 'MATCH', (string) $match, 'COUNT', 1000, 'TYPE', 'stream');
                foreach ($names ?? [] as $name) {
                    if ($name !== $this->settings->deadLetterStream) {
                        $this->queues[$name] ??= new StreamQueue($name);
                    }
                }
            } while ('0' !== (string) $cursor);
        }
        // Looking through very many keys must not become what Redis mostly does.
        $now = microtime(true);
        $this->discoverAt = $now + max(self::DISCOVER_SECONDS, 50 * ($now - $started));
    }

    private function prepare(StreamQueue $queue): void
    {
        if (!isset($this->ready[$queue->stream])) {
            $this->createGroup($queue);
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
            $queue->hasForgotten = 0 < $this->takeFrom($queue, $this->settings->consumer, 0);
        }
        if ([] === $queue->entries && microtime(true) >= $queue->claimAt) {
            $taken = $this->takeOver($queue);
            $queue->claimAt = 0 < $taken ? 0.0 : microtime(true) + min(self::CLAIM_SECONDS, $this->settings->claimIdleSeconds / 2);
        }
    }

    /**
     * Creates the group, which then begins with what the stream has. If it had been there, it goes on where this worker
     * was, unless the stream is another one by now.
     */
    private function createGroup(StreamQueue $queue): void
    {
        $from = $queue->lastId;
        try {
            if ('0' !== $from) {
                $facts = self::facts($this->redis->call('XINFO', 'STREAM', $queue->stream));
                if (StreamQueue::compare((string) ($facts['last-generated-id'] ?? '0'), $from) < 0) {
                    $from = '0';
                }
            }
        } catch (RedisException $exception) {
            // No such key.
            if ('ERR' !== $exception->code()) {
                throw $exception;
            }
            $from = '0';
        }
        try {
            $this->redis->call('XGROUP', 'CREATE', $queue->stream, $this->settings->group, $from, 'MKSTREAM');
        } catch (RedisException $exception) {
            if ('BUSYGROUP' !== $exception->code()) {
                throw $exception;
            }
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
        foreach ($this->redis->call('XINFO', 'CONSUMERS', $queue->stream, $this->settings->group) ?? [] as $answer) {
            $consumer = self::facts($answer);
            $name = (string) $consumer['name'];
            if ($name === $this->settings->consumer) {
                continue;
            }
            $isDead = ConsumerName::isDead($name);
            if (0 < (int) $consumer['pending']) {
                if ($isDead) {
                    $taken += $this->takeFrom($queue, $name, 0);
                } else {
                    $isLeft = true;
                }
            } elseif ($isDead || (int) $consumer['idle'] > self::FORGET_FACTOR * $idleMilliseconds) {
                $minimum = $isDead ? 0 : self::FORGET_FACTOR * $idleMilliseconds;
                $this->redis->call('EVAL', self::FORGET, 1, $queue->stream, $this->settings->group, $name, (string) $minimum);
            }
        }
        $cursor = '0-0';
        while ($isLeft && 0 === $taken) {
            $answer = $this->redis->call(
                'XAUTOCLAIM',
                $queue->stream,
                $this->settings->group,
                $this->settings->consumer,
                $idleMilliseconds,
                $cursor,
                'COUNT',
                $this->settings->batch,
                'JUSTID',
            );
            $taken += $this->take($queue, $answer[1] ?? []);
            $cursor = (string) ($answer[0] ?? '0-0');
            $isLeft = '0-0' !== $cursor;
        }

        return $taken;
    }

    private function takeFrom(StreamQueue $queue, string $consumer, int $idleMilliseconds): int
    {
        $pending = $this->redis->call('XPENDING', $queue->stream, $this->settings->group, '-', '+', $this->settings->batch, $consumer);
        $ids = array_column($pending ?? [], 0);
        if ([] === $ids) {
            return 0;
        }

        return $this->take($queue, $this->redis->call(
            'XCLAIM',
            $queue->stream,
            $this->settings->group,
            $this->settings->consumer,
            $idleMilliseconds,
            ...$ids,
            ...['JUSTID'],
        ) ?? []);
    }

    /**
     * @param list<string|null> $ids
     */
    private function take(StreamQueue $queue, array $ids): int
    {
        $count = 0;
        foreach ($ids as $id) {
            if (null !== $id && !\array_key_exists($id, $queue->entries)) {
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
            if (null === $queue->head() || $queue->pausedUntil > $now) {
                continue;
            }
            if (null === $oldest || StreamQueue::compare($queue->head(), (string) $oldest->head()) < 0) {
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
        // This counts as a delivery, and says what the entry holds.
        $claimed = $this->redis->call('XCLAIM', $queue->stream, $this->settings->group, $this->settings->consumer, 0, $id)[0] ?? null;
        if (!\is_array($claimed)) {
            // Deleted meanwhile. Redis before 7 keeps it in its list of what was not acknowledged.
            unset($queue->entries[$id]);
            $this->redis->call('XACK', $queue->stream, $this->settings->group, $id);

            return null;
        }
        $pending = $this->redis->call('XPENDING', $queue->stream, $this->settings->group, $id, $id, 1);

        return $queue->entries[$id] = EntryReader::read($queue->stream, $id, $claimed[1] ?? null, (int) ($pending[0][3] ?? 1), $this->settings->destination($queue->stream));
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
        $answer = $this->redis->call(
            'XREADGROUP',
            'GROUP',
            $this->settings->group,
            $this->settings->consumer,
            'COUNT',
            $this->settings->batch,
            // 0 would be for ever.
            ...['BLOCK', max(1, $milliseconds), 'STREAMS'],
            ...$names,
            ...array_fill(0, \count($names), '>'),
        );
        foreach ($answer ?? [] as [$stream, $entries]) {
            $queue = $this->queues[$stream];
            $queue->refreshedAt = microtime(true);
            foreach ($entries as [$id, $fields]) {
                $queue->entries[$id] = EntryReader::read($stream, $id, $fields, 1, $this->settings->destination($stream));
            }
        }
    }

    private function acknowledge(StreamQueue $queue, string $id): void
    {
        $this->redis->call(
            'EVAL',
            self::ACK,
            1,
            $queue->stream,
            $this->settings->group,
            $id,
            $this->settings->deleteAfterAck ? '1' : '0',
        );
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
        $this->claimJustIds($queue);
        $queue->refreshedAt = microtime(true);
    }

    private function giveBack(StreamQueue $queue): void
    {
        if ([] !== $queue->entries && isset($this->ready[$queue->stream])) {
            // As if they had waited for long, so that another worker takes them at once.
            $this->claimJustIds($queue, 'IDLE', (int) (1000 * $this->settings->claimIdleSeconds) + 1);
        }
    }

    private function claimJustIds(StreamQueue $queue, string|int ...$options): void
    {
        $this->redis->call(
            'XCLAIM',
            $queue->stream,
            $this->settings->group,
            $this->settings->consumer,
            0,
            ...array_map(strval(...), array_keys($queue->entries)),
            ...$options,
            ...['JUSTID'],
        );
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

    /**
     * @param list<mixed> $answer names and values in turn
     *
     * @return array<string, mixed>
     */
    private static function facts(array $answer): array
    {
        $facts = [];
        for ($at = 0; $at + 1 < \count($answer); $at += 2) {
            $facts[(string) $answer[$at]] = $answer[$at + 1];
        }

        return $facts;
    }
}
