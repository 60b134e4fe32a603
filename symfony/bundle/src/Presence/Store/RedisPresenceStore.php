<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence\Store;

use Snoke\WsBundle\Exception\PresenceException;
use Snoke\WsBundle\Exception\RedisException;
use Snoke\WsBundle\Presence\Connection;
use Snoke\WsBundle\Redis\Answer;
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
        $ids = $this->redis(fn (): array => Answer::texts($this->redis->call('SMEMBERS', $set)));
        sort($ids, \SORT_STRING);
        foreach (array_chunk($ids, self::CHUNK) as $chunk) {
            $read = array_map(fn (string $id): array => ['HMGET', $this->keys->connection($id), 'user_id', 'subjects', 'connected_at', 'last_seen_at'], $chunk);
            $gone = [];
            $found = [];
            $answers = $this->redis(fn (): array => array_map(Answer::items(...), $this->redis->pipeline($read)));
            foreach ($chunk as $at => $id) {
                $fields = $answers[$at] ?? [];
                if (null === ($fields[0] ?? null)) {
                    $gone[] = $id;
                } else {
                    $found[] = self::connection($id, $fields);
                }
            }
            if ([] !== $gone) {
                $this->redis(fn (): mixed => $this->redis->call('SREM', $set, ...$gone));
            }
            yield from $found;
        }
    }

    /**
     * @param list<mixed> $fields
     */
    private static function connection(string $id, array $fields): Connection
    {
        [$userId, $subjects, $connectedAt] = array_map(Answer::text(...), [$fields[0] ?? '', $fields[1] ?? '', $fields[2] ?? '0']);

        return new Connection(
            $id,
            $userId,
            ConnectionReader::texts(json_decode($subjects, true)),
            (int) $connectedAt,
            (int) Answer::text($fields[3] ?? $connectedAt),
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
