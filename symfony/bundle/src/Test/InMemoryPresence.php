<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Test;

use Snoke\WsBundle\Presence\Connection;
use Snoke\WsBundle\Presence\Store\PresenceStoreInterface;

/**
 * Has online whom a test says: `presence.type: in_memory`.
 */
final class InMemoryPresence implements PresenceStoreInterface
{
    /** @var array<string, Connection> */
    private array $connections = [];

    /**
     * @param list<string> $subjects beside the user's own
     */
    public function connect(string $userId, array $subjects = [], string $userPrefix = 'user:'): Connection
    {
        $id = sprintf('00000000-0000-7000-8000-%012d', \count($this->connections) + 1);

        return $this->connections[$id] = new Connection($id, $userId, [$userPrefix . $userId, ...$subjects], time(), time());
    }

    public function disconnect(Connection $connection): void
    {
        unset($this->connections[$connection->connectionId]);
    }

    public function ofUser(string $userId): iterable
    {
        return array_filter($this->connections, static fn (Connection $connection): bool => $connection->userId === $userId);
    }

    public function ofSubject(string $subject): iterable
    {
        return array_filter($this->connections, static fn (Connection $connection): bool => \in_array($subject, $connection->subjects, true));
    }
}
