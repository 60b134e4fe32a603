<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer\Redis;

use Snoke\WsBundle\Consumer\Entry;
use Snoke\WsBundle\Exception\RedisException;
use Snoke\WsBundle\Redis\Answer;
use Snoke\WsBundle\Redis\RedisClientInterface;

/**
 * What one consumer of a group asks of Redis, command by command. {@see RedisStreamSource} decides what and when.
 *
 * @internal
 */
final class ConsumerGroup
{
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

    /** For one hash slot of several, while the others are not asked. */
    private const TURN_MILLISECONDS = 50;

    /** Whether it is a cluster, whose streams lie in several hash slots. */
    private bool $hasSlots = false;
    private int $turn = 0;

    public function __construct(
        private readonly RedisClientInterface $redis,
        private readonly RedisStreamSettings $settings,
    ) {
    }

    /**
     * Looks for streams by a name in which `*` stands for anything.
     *
     * @return list<string>
     */
    public function streams(string $pattern): array
    {
        // Everything but * is meant as it is written.
        $match = (string) preg_replace('/[?\[\]\\\\]/', '\\\\$0', $pattern);
        $names = [];
        $cursor = '0';
        do {
            $answer = Answer::items($this->redis->call('SCAN', $cursor, 'MATCH', $match, 'COUNT', 1000, 'TYPE', 'stream'));
            $cursor = Answer::text($answer[0] ?? '0');
            $names[] = Answer::texts($answer[1] ?? null);
        } while ('0' !== $cursor);

        return array_merge(...$names);
    }

    /**
     * Creates the group, which then begins with what the stream has. If it had been there, it goes on where this worker
     * was, unless the stream is another one by now.
     *
     * @param string $from the last entry that this worker dealt with, or `0`
     */
    public function create(string $stream, string $from): void
    {
        try {
            if ('0' !== $from) {
                $facts = Answer::facts($this->redis->call('XINFO', 'STREAM', $stream));
                if (StreamQueue::compare(Answer::text($facts['last-generated-id'] ?? '0'), $from) < 0) {
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
            $this->redis->call('XGROUP', 'CREATE', $stream, $this->settings->group, $from, 'MKSTREAM');
        } catch (RedisException $exception) {
            if ('BUSYGROUP' !== $exception->code()) {
                throw $exception;
            }
        }
    }

    /**
     * @return list<array{name: string, pending: int, idle: int}> idle: milliseconds without a sign of life
     */
    public function others(string $stream): array
    {
        $others = [];
        foreach (Answer::items($this->redis->call('XINFO', 'CONSUMERS', $stream, $this->settings->group)) as $answer) {
            $facts = Answer::facts($answer);
            $name = Answer::text($facts['name'] ?? null);
            if ($name !== $this->settings->consumer) {
                $others[] = [
                    'name' => $name,
                    'pending' => Answer::number($facts['pending'] ?? null),
                    'idle' => Answer::number($facts['idle'] ?? null),
                ];
            }
        }

        return $others;
    }

    /**
     * Forgets another consumer that has no entries and has been idle for long enough.
     */
    public function forget(string $stream, string $consumer, int $idleMilliseconds): void
    {
        $this->redis->call('EVAL', self::FORGET, 1, $stream, $this->settings->group, $consumer, (string) $idleMilliseconds);
    }

    /**
     * Takes the first entries of one consumer, which may be this one.
     *
     * @return list<string> their ids
     */
    public function takeFrom(string $stream, string $consumer): array
    {
        $pending = $this->redis->call('XPENDING', $stream, $this->settings->group, '-', '+', $this->settings->batch, $consumer);
        $ids = [];
        foreach (Answer::items($pending) as $entry) {
            $ids[] = Answer::text(Answer::items($entry)[0] ?? null);
        }

        return [] === $ids ? [] : Answer::texts($this->claim($stream, 0, ...$ids, ...['JUSTID']));
    }

    /**
     * Takes entries of consumers that gave no sign of life for long enough.
     *
     * @param string $cursor where to go on, `0-0` to begin with
     *
     * @return array{string, list<string>} where to go on, `0-0` if that was all; ids
     */
    public function takeIdle(string $stream, int $idleMilliseconds, string $cursor): array
    {
        $answer = Answer::items($this->redis->call(
            'XAUTOCLAIM',
            $stream,
            $this->settings->group,
            $this->settings->consumer,
            $idleMilliseconds,
            $cursor,
            'COUNT',
            $this->settings->batch,
            'JUSTID',
        ));

        return [Answer::text($answer[0] ?? '0-0'), Answer::texts($answer[1] ?? null)];
    }

    /**
     * Tells Redis that entries are still wanted.
     *
     * @param list<string> $ids
     */
    public function keep(string $stream, array $ids): void
    {
        $this->claim($stream, 0, ...$ids, ...['JUSTID']);
    }

    /**
     * Gives entries back, as if they had waited for long, so that another worker takes them at once.
     *
     * @param list<string> $ids
     */
    public function giveBack(string $stream, array $ids): void
    {
        $this->claim($stream, 0, ...$ids, ...['IDLE', (int) (1000 * $this->settings->claimIdleSeconds) + 1, 'JUSTID']);
    }

    /**
     * Gives an entry that this consumer took; null if it was deleted meanwhile. This counts as a delivery.
     */
    public function entry(string $stream, string $id): ?Entry
    {
        $claimed = Answer::items($this->claim($stream, 0, $id))[0] ?? null;
        if (!\is_array($claimed)) {
            // Redis before 7 keeps it in its list of what was not acknowledged.
            $this->redis->call('XACK', $stream, $this->settings->group, $id);

            return null;
        }
        $pending = Answer::items($this->redis->call('XPENDING', $stream, $this->settings->group, $id, $id, 1));
        $deliveries = Answer::items($pending[0] ?? null)[3] ?? 1;

        return EntryReader::read($stream, $id, Answer::items($claimed)[1] ?? null, Answer::number($deliveries), $this->settings->destination($stream));
    }

    /**
     * Waits for new entries.
     *
     * In a cluster no command reads streams of several hash slots. Their streams are asked in turn then, and the wait is
     * for one of them, another each time, and short.
     *
     * @param non-empty-list<string> $streams
     *
     * @return array<array-key, list<Entry>> by stream, which PHP makes an integer if it looks like one
     */
    public function read(array $streams, int $milliseconds): array
    {
        if (!$this->hasSlots) {
            try {
                return $this->readSlot($streams, $milliseconds);
            } catch (RedisException $exception) {
                if (!self::crossesSlots($exception)) {
                    throw $exception;
                }
                $this->hasSlots = true;
            }
        }
        $slots = self::bySlot($streams);
        if (1 === \count($slots)) {
            return $this->readSlot($streams, $milliseconds);
        }
        $entries = [];
        foreach ($slots as $slot) {
            $entries += $this->readSlot($slot, null);
        }

        return [] !== $entries ? $entries : $this->readSlot($slots[$this->turn++ % \count($slots)], min($milliseconds, self::TURN_MILLISECONDS));
    }

    /**
     * @param non-empty-list<string> $streams
     * @param int|null               $milliseconds null: without a wait
     *
     * @return array<array-key, list<Entry>>
     */
    private function readSlot(array $streams, ?int $milliseconds): array
    {
        $answer = $this->redis->call(
            'XREADGROUP',
            'GROUP',
            $this->settings->group,
            $this->settings->consumer,
            'COUNT',
            $this->settings->batch,
            // 0 would be for ever.
            ...(null === $milliseconds ? [] : ['BLOCK', max(1, $milliseconds)]),
            ...['STREAMS'],
            ...$streams,
            ...array_fill(0, \count($streams), '>'),
        );
        $entries = [];
        foreach (Answer::items($answer) as $item) {
            $ofStream = Answer::items($item);
            $stream = Answer::text($ofStream[0] ?? null);
            $entries[$stream] = [];
            foreach (Answer::items($ofStream[1] ?? null) as $entry) {
                $parts = Answer::items($entry);
                $entries[$stream][] = EntryReader::read($stream, Answer::text($parts[0] ?? null), $parts[1] ?? null, 1, $this->settings->destination($stream));
            }
        }

        return $entries;
    }

    /**
     * Puts streams together that one command may read in a cluster: those of one hash tag.
     *
     * @param non-empty-list<string> $streams
     *
     * @return list<non-empty-list<string>>
     */
    private static function bySlot(array $streams): array
    {
        $slots = [];
        foreach ($streams as $stream) {
            $tag = 1 === preg_match('/^[^{]*\{([^}]+)\}/', $stream, $found) ? '{' . $found[1] : $stream;
            $slots[$tag][] = $stream;
        }

        return array_values($slots);
    }

    /**
     * Whether a cluster refused a command for keys of several hash slots.
     */
    private static function crossesSlots(RedisException $exception): bool
    {
        return 'CROSSSLOT' === $exception->code();
    }

    public function acknowledge(string $stream, string $id): void
    {
        $this->redis->call('EVAL', self::ACK, 1, $stream, $this->settings->group, $id, $this->delete());
    }

    /**
     * Keeps a dead letter and acknowledges its entry, in a cluster one after the other: what ends in between leaves the
     * entry, which then is there twice.
     */
    public function bury(Entry $entry, string $reason, ?string $eventId): void
    {
        $fields = [
            'reason', $reason, 'raw', $entry->raw,
            ...(null === $eventId ? [] : ['event_id', $eventId]),
            ...['sink', 'redis', 'failed_at', (string) time()],
            ...['stream', $entry->from, 'entry', $entry->id, 'deliveries', (string) $entry->deliveries],
        ];
        $letters = $this->settings->deadLetterStream;
        try {
            $this->redis->call('EVAL', self::BURY, 2, $entry->from, $letters, $this->settings->group, $entry->id, $this->delete(), ...$fields);
        } catch (RedisException $exception) {
            if (!self::crossesSlots($exception)) {
                throw $exception;
            }
            $this->redis->call('XADD', $letters, '*', ...$fields);
            $this->acknowledge($entry->from, $entry->id);
        }
    }

    public function disconnect(): void
    {
        $this->redis->disconnect();
    }

    private function claim(string $stream, int $idleMilliseconds, string|int ...$arguments): mixed
    {
        return $this->redis->call(
            'XCLAIM',
            $stream,
            $this->settings->group,
            $this->settings->consumer,
            $idleMilliseconds,
            ...array_values($arguments),
        );
    }

    private function delete(): string
    {
        return $this->settings->deleteAfterAck ? '1' : '0';
    }
}
