<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence\Store;

use Snoke\WsBundle\Setting\Setting;

/**
 * Chooses the store by `presence.type`, which may come from the environment.
 */
final class PresenceStoreFactory
{
    /**
     * @param array<string, \Closure(): PresenceStoreInterface> $stores by their type
     */
    public static function create(?string $mode, ?string $type, array $stores): PresenceStoreInterface
    {
        return $stores[Setting::type('presence', $mode, $type)]();
    }
}
