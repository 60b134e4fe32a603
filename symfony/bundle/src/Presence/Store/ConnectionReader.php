<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence\Store;

use Snoke\WsBundle\Presence\Connection;

/**
 * Reads connections as the gateway's API writes them.
 *
 * @internal
 */
final class ConnectionReader
{
    /**
     * Gives null for what is none.
     */
    public static function read(mixed $entry): ?Connection
    {
        if (
            !\is_array($entry) || !\is_string($entry['connection_id'] ?? null) || !\is_string($entry['user_id'] ?? null)
            || !\is_array($entry['subjects'] ?? null) || !\is_int($entry['connected_at'] ?? null)
        ) {
            return null;
        }
        $seen = $entry['last_seen_at'] ?? null;

        return new Connection(
            $entry['connection_id'],
            $entry['user_id'],
            self::texts($entry['subjects']),
            $entry['connected_at'],
            \is_int($seen) ? $seen : $entry['connected_at'],
        );
    }

    /**
     * @return list<string> what is text of it
     */
    public static function texts(mixed $values): array
    {
        $texts = [];
        foreach (\is_array($values) ? $values : [] as $value) {
            if (\is_string($value)) {
                $texts[] = $value;
            }
        }

        return $texts;
    }
}
