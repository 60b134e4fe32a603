<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence;

/**
 * A connection of a client to a gateway.
 */
final class Connection
{
    /**
     * @param list<string> $subjects    what it listens to, the user's own subject among them
     * @param int          $connectedAt Unix seconds
     * @param int          $lastSeenAt  Unix seconds of the last sign of life
     */
    public function __construct(
        public readonly string $connectionId,
        public readonly string $userId,
        public readonly array $subjects,
        public readonly int $connectedAt,
        public readonly int $lastSeenAt,
    ) {
    }
}
