<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence\Store;

use Snoke\WsBundle\Exception\PresenceException;
use Snoke\WsBundle\Exception\RedisException;
use Snoke\WsBundle\Presence\Connection;
use Snoke\WsBundle\Redis\RedisClientInterface;

/**
 * Reads what gateways, or {@see \Snoke\WsBundle\Presence\Writer\RedisPresenceWriter}, keep in Redis.
 *
 * Entries expire by themselves, but members of a set do not: whoever finds one without an entry removes it.
 */
final class RedisPresenceStore implements PresenceStoreInterface
{
    /** Entries read in one round trip. */
    private const CHUNK = 500;

    private readonly PresenceKeys $keys;

    public function __construct(private readonly RedisClientInterface $redis, ?string $prefix = 'presence:')
    {
        $this->keys = new PresenceKeys($prefix ?? '');
    }

    public function ofUser(string $userId): iterable
    {
        return $this->members($this->keys->user($userId));
    }

    public function ofSubject(string $subject): iterable
    {
        return $this->members($this->keys->subject($subject));
    }

    /**
     * @return iterable<Connection>
     */
    private function members(string $set): iterable
    {
        $ids = $this->redis(fn (): mixed => $this->redis->call('SMEMBERS', $set)) ?? [];
        sort($ids, \SORT_STRING);
        foreach (array_chunk($ids, self::CHUNK) as $chunk) {
            $read = array_map(fn (string $id): array => ['HMGET', $this->keys->connection($id), 'user_id', 'subjects', 'connected_at', 'last_seen_at'], $chunk);
            $gone = [];
            $found = [];
            foreach ($this->redis(fn (): array => $this->redis->pipeline($read)) as $at => $fields) {
                if (null === ($fields[0] ?? null)) {
                    $gone[] = $chunk[$at];
                } else {
                    $found[] = self::connection($chunk[$at], $fields);
                }
            }
            if ([] !== $gone) {
                $this->redis(fn (): mixed => $this->redis->call('SREM', $set, ...$gone));
            }
            yield from $found;
        }
    }

    /**
     * @param list<string|null> $fields
     */
    private static function connection(string $id, array $fields): Connection
    {
        [$userId, $subjects, $connectedAt, $lastSeenAt] = $fields + [1 => null, null, null];
        $subjects = json_decode($subjects ?? '', true);

        return new Connection(
            $id,
            (string) $userId,
            \is_array($subjects) ? array_values(array_filter($subjects, 'is_string')) : [],
            (int) $connectedAt,
            (int) ($lastSeenAt ?? $connectedAt),
        );
    }

    /**
     * @template T
     *
     * @param \Closure(): T $ask
     *
     * @return T
     */
    private function redis(\Closure $ask): mixed
    {
        try {
            return $ask();
        } catch (RedisException $exception) {
            throw new PresenceException(sprintf('Redis did not say who is online: %s', $exception->getMessage()), 0, $exception);
        }
    }
}
