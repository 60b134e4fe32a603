<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence;

/**
 * Decides whether a connection that is written down counts as alive.
 */
interface PresenceInterpreterInterface
{
    /**
     * @param int $now Unix seconds
     */
    public function isAlive(Connection $connection, int $now): bool;
}
