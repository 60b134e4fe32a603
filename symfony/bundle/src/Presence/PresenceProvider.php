<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence;

use Snoke\WsBundle\Presence\Store\PresenceStoreInterface;
use Snoke\WsBundle\User\UserIdResolver;
use Snoke\WsBundle\User\UserIdResolverInterface;
use Symfony\Component\Security\Core\User\UserInterface;

/**
 * Reads from a store, and leaves out what does not count as alive.
 */
final class PresenceProvider implements PresenceProviderInterface
{
    /** @var \Closure(): int */
    private readonly \Closure $now;

    /**
     * @param \Closure(): int|null $now Unix seconds
     */
    public function __construct(
        private readonly PresenceStoreInterface $store,
        private readonly PresenceInterpreterInterface $interpreter,
        private readonly UserIdResolverInterface $users = new UserIdResolver(),
        ?\Closure $now = null,
    ) {
        $this->now = $now ?? time(...);
    }

    public function isOnline(UserInterface|string|int $user): bool
    {
        $now = ($this->now)();
        foreach ($this->store->ofUser($this->users->resolve($user)) as $connection) {
            if ($this->interpreter->isAlive($connection, $now)) {
                return true;
            }
        }

        return false;
    }

    public function connectionsOfUser(UserInterface|string|int $user): array
    {
        return $this->alive($this->store->ofUser($this->users->resolve($user)));
    }

    public function connectionsOfSubject(string $subject): array
    {
        return $this->alive($this->store->ofSubject($subject));
    }

    /**
     * @param iterable<Connection> $connections
     *
     * @return list<Connection>
     */
    private function alive(iterable $connections): array
    {
        $now = ($this->now)();
        $alive = [];
        foreach ($connections as $connection) {
            if ($this->interpreter->isAlive($connection, $now)) {
                $alive[] = $connection;
            }
        }

        return $alive;
    }
}
