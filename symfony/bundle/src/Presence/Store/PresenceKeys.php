<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence\Store;

/**
 * The names of presence's keys in Redis, which are the gateway's too.
 *
 * @internal
 */
final class PresenceKeys
{
    public function __construct(private readonly string $prefix)
    {
    }

    /** A hash: connection_id, user_id, subjects (JSON), connected_at, last_seen_at. */
    public function connection(string $connectionId): string
    {
        return $this->prefix . 'conn:' . $connectionId;
    }

    /** A set of connection ids. */
    public function user(string $userId): string
    {
        return $this->prefix . 'user:' . $userId;
    }

    /** A set of connection ids. */
    public function subject(string $subject): string
    {
        return $this->prefix . 'subject:' . $subject;
    }
}
