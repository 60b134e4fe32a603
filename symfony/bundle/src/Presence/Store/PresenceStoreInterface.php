<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence\Store;

use Snoke\WsBundle\Exception\PresenceException;
use Snoke\WsBundle\Presence\Connection;

/**
 * Where connections are written down.
 */
interface PresenceStoreInterface
{
    /**
     * @return iterable<Connection> in the order of their ids
     *
     * @throws PresenceException
     */
    public function ofUser(string $userId): iterable;

    /**
     * @return iterable<Connection> in the order of their ids
     *
     * @throws PresenceException
     */
    public function ofSubject(string $subject): iterable;
}
