<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Dedupe;

/**
 * Remembers which events were handled: the gateway delivers at least once.
 */
interface EventDeduplicatorInterface
{
    /**
     * Whether an event of this id was handled before.
     */
    public function isHandled(string $eventId): bool;

    /**
     * Remembers an event that was handled without failure; a failed one must come again.
     */
    public function markHandled(string $eventId): void;
}
