<?php

declare(strict_types=1);

namespace App\Inbox;

use Snoke\WsBundle\Exception\RedisException;

/**
 * Keeps the latest messages of clients.
 */
interface MessageInbox
{
    /**
     * @param string $event the event's JSON
     *
     * @throws RedisException
     */
    public function add(string $event): void;

    /**
     * @return string|null the latest event's JSON
     *
     * @throws RedisException
     */
    public function last(): ?string;
}
