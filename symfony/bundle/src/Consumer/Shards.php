<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer;

use Snoke\WsBundle\Exception\InvalidSettingException;
use Snoke\WsBundle\Setting\Setting;

/**
 * The shards that the gateway splits messages into (`partition_mode: shards`): `ws.inbox.0`, `ws.inbox.1` and so on.
 */
final class Shards
{
    public const MAX = 1024;

    /**
     * The shard that the gateway puts a message into, by its ordering key, or without one by its connection's id.
     *
     * @param int $partitions how many shards there are, the gateway's `partitions`
     */
    public static function of(string $key, int $partitions): int
    {
        // That is crc32(), whose result is negative for some keys where integers have 32 bits.
        return (int) fmod(hexdec(hash('crc32b', $key)), max(1, $partitions));
    }

    /**
     * How many shards a setting says there are; 0: none.
     */
    public static function count(string $path, mixed $value): int
    {
        if (null === $value || '' === $value || \is_array($value)) {
            return 0;
        }
        if (!\is_int($value) && !(\is_string($value) && 1 === preg_match('/^\d{1,9}$/D', $value))) {
            throw Setting::invalid($path, sprintf('must be how many shards there are, from 0 to %d', self::MAX));
        }

        return (int) Setting::number($path, (int) $value, 0, self::MAX);
    }

    /**
     * Reads selections such as "2", "0-3" and "0-3,8".
     *
     * @param list<string> $selections
     * @param int          $count      how many shards there are
     *
     * @return list<int> in their order, none twice
     *
     * @throws InvalidSettingException if there is no such shard
     */
    public static function select(array $selections, int $count): array
    {
        $selected = [];
        foreach (explode(',', implode(',', $selections)) as $part) {
            if (1 !== preg_match('/^\s*(\d{1,4})(?:-(\d{1,4}))?\s*$/D', $part, $ends)) {
                throw new InvalidSettingException(sprintf('--shards must be numbers of shards such as "2", "0-3" or "0-3,8", not "%s".', $part));
            }
            $first = (int) $ends[1];
            $last = (int) ($ends[2] ?? $ends[1]);
            if ($last < $first || $last >= $count) {
                throw new InvalidSettingException(0 === $count
                    ? '--shards needs to know how many there are: set "partitions" of the broker below "snoke_ws.events" to the gateway\'s.'
                    : sprintf('--shards asks for "%s", and the shards are those from 0 to %d.', trim($part), $count - 1));
            }
            $selected += array_fill($first, $last - $first + 1, true);
        }
        ksort($selected);

        return array_keys($selected);
    }

    /**
     * The names of streams, queues or routing keys of some shards.
     *
     * @param list<int> $shards
     *
     * @return list<string>
     */
    public static function names(string $name, array $shards): array
    {
        return array_map(static fn (int $shard): string => $name . '.' . $shard, $shards);
    }

    /**
     * @return list<int> the numbers of all shards
     */
    public static function all(int $count): array
    {
        return array_keys(array_fill(0, $count, true));
    }
}
