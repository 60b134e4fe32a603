<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Publisher\Transport;

use Snoke\WsBundle\Setting\Setting;

/**
 * Chooses the transport by `transport.type`, which may come from the environment.
 */
final class TransportFactory
{
    /**
     * @param array<string, \Closure(): TransportInterface> $transports by their type
     */
    public static function create(?string $mode, ?string $type, array $transports): TransportInterface
    {
        return $transports[Setting::type('transport', $mode, $type)]();
    }
}
