<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Dedupe;

/**
 * Remembers nothing: handlers see an event as often as it comes.
 */
final class NullEventDeduplicator implements EventDeduplicatorInterface
{
    public function isHandled(string $eventId): bool
    {
        return false;
    }

    public function markHandled(string $eventId): void
    {
    }
}
