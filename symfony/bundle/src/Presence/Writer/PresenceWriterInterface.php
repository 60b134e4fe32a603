<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence\Writer;

use Snoke\WsBundle\Exception\RedisException;
use Snoke\WsBundle\Presence\Connection;

/**
 * Writes down who is online.
 */
interface PresenceWriterInterface
{
    /**
     * Writes all of a connection, whatever of it is there already.
     *
     * @throws RedisException
     */
    public function write(Connection $connection): void;

    /**
     * @throws RedisException
     */
    public function remove(Connection $connection): void;
}
