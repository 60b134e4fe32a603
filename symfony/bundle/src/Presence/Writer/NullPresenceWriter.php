<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence\Writer;

use Snoke\WsBundle\Presence\Connection;

/**
 * Leaves it to the gateway.
 */
final class NullPresenceWriter implements PresenceWriterInterface
{
    public function write(Connection $connection): void
    {
    }

    public function remove(Connection $connection): void
    {
    }
}
