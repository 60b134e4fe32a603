<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence;

use Snoke\WsBundle\Setting\Setting;

/**
 * Decides by one of the strategies of `presence.interpretation`.
 *
 * | strategy          | alive                                                             |
 * |-------------------|-------------------------------------------------------------------|
 * | none              | whatever is written down                                          |
 * | session           | the same: it is written down from connect to disconnect           |
 * | ttl, heartbeat    | for so many seconds, and grace, after its last sign of life (or its start) |
 */
final class PresenceInterpreter implements PresenceInterpreterInterface
{
    /** Seconds that may pass; null = for ever. */
    private readonly ?int $seconds;

    public function __construct(
        ?string $strategy = 'none',
        int $ttlSeconds = 120,
        int $heartbeatSeconds = 30,
        int $graceSeconds = 15,
        private readonly bool $useLastSeen = true,
    ) {
        $path = 'presence.interpretation.';
        Setting::number($path . 'ttl_seconds', $ttlSeconds, 1, 604800);
        Setting::number($path . 'heartbeat_seconds', $heartbeatSeconds, 1, 604800);
        Setting::number($path . 'grace_seconds', $graceSeconds, 0, 604800);
        $this->seconds = match (Setting::choice($path . 'strategy', $strategy, Setting::STRATEGIES)) {
            'ttl' => $ttlSeconds + $graceSeconds,
            'heartbeat' => $heartbeatSeconds + $graceSeconds,
            default => null,
        };
    }

    public function isAlive(Connection $connection, int $now): bool
    {
        $since = $this->useLastSeen ? $connection->lastSeenAt : $connection->connectedAt;

        return null === $this->seconds || $now - $since <= $this->seconds;
    }
}
