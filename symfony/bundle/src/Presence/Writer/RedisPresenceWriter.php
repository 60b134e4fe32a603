<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence\Writer;

use Snoke\WsBundle\Presence\Connection;
use Snoke\WsBundle\Presence\Store\PresenceKeys;
use Snoke\WsBundle\Redis\Answer;
use Snoke\WsBundle\Redis\RedisClientInterface;
use Snoke\WsBundle\Setting\Setting;

/**
 * Keeps the same keys in Redis that a gateway with presence in Redis does.
 *
 * Entries and sets expire; each write prolongs them, so that a set lives as long as its youngest member. Members whose
 * entry has expired are removed by whoever reads the set, and each write looks at some, so that a set that is never
 * read does not grow either.
 */
final class RedisPresenceWriter implements PresenceWriterInterface
{
    /** Members of each set that a write looks at. More than it adds, so that what has expired gets less and less. */
    private const LOOKED_AT = 8;

    private readonly PresenceKeys $keys;

    /**
     * @param int $ttlSeconds after which an entry goes if it is not written again; 0 = never
     */
    public function __construct(
        private readonly RedisClientInterface $redis,
        ?string $prefix = 'presence:',
        private readonly int $ttlSeconds = 3600,
    ) {
        $this->keys = new PresenceKeys($prefix ?? '');
        Setting::number('presence.writer.ttl_seconds', $ttlSeconds, 0, 604800);
    }

    public function write(Connection $connection): void
    {
        $id = $connection->connectionId;
        $entry = $this->keys->connection($id);
        $commands = [
            [
                'HSET', $entry,
                'connection_id', $id,
                'user_id', $connection->userId,
                'subjects', json_encode($connection->subjects, \JSON_THROW_ON_ERROR | \JSON_UNESCAPED_SLASHES | \JSON_UNESCAPED_UNICODE),
                'connected_at', $connection->connectedAt,
                'last_seen_at', $connection->lastSeenAt,
            ],
            $this->keep($entry),
        ];
        $sets = $this->sets($connection);
        foreach ($sets as $set) {
            $commands[] = ['SADD', $set, $id];
            $commands[] = $this->keep($set);
        }
        if (0 === $this->ttlSeconds) {
            $this->redis->pipeline($commands);

            return;
        }
        $looks = array_map(static fn (string $set): array => ['SRANDMEMBER', $set, self::LOOKED_AT], $sets);
        $answers = $this->redis->pipeline([...$commands, ...$looks]);
        $members = [];
        foreach ($sets as $at => $set) {
            $members[$set] = Answer::texts($answers[\count($commands) + $at] ?? null);
        }
        $this->removeExpired($members);
    }

    public function remove(Connection $connection): void
    {
        $id = $connection->connectionId;
        $commands = array_map(static fn (string $set): array => ['SREM', $set, $id], $this->sets($connection));
        $this->redis->pipeline([['DEL', $this->keys->connection($id)], ...$commands]);
    }

    /**
     * @param array<array-key, list<string>> $members some of each set
     */
    private function removeExpired(array $members): void
    {
        $ids = array_values(array_unique(array_merge(...array_values($members))));
        $exist = $this->redis->pipeline(array_map(fn (string $id): array => ['EXISTS', $this->keys->connection($id)], $ids));
        $expired = array_values(array_filter($ids, static fn (int $at): bool => 0 === ($exist[$at] ?? null), \ARRAY_FILTER_USE_KEY));
        $commands = [];
        foreach ($members as $set => $some) {
            $gone = array_intersect($some, $expired);
            if ([] !== $gone) {
                $commands[] = ['SREM', (string) $set, ...array_values($gone)];
            }
        }
        $this->redis->pipeline($commands);
    }

    /**
     * @return list<string>
     */
    private function sets(Connection $connection): array
    {
        return array_values(array_unique([
            $this->keys->user($connection->userId),
            ...array_map($this->keys->subject(...), $connection->subjects),
        ]));
    }

    /**
     * @return non-empty-list<string|int>
     */
    private function keep(string $key): array
    {
        return 0 === $this->ttlSeconds ? ['PERSIST', $key] : ['EXPIRE', $key, $this->ttlSeconds];
    }
}
