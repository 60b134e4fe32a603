<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence;

use Snoke\WsBundle\Exception\PresenceException;
use Symfony\Component\Security\Core\User\UserInterface;

/**
 * Knows who is online.
 */
interface PresenceProviderInterface
{
    /**
     * Tells whether a user has a connection that counts as alive.
     *
     * @param UserInterface|string|int $user a user, or his id
     *
     * @throws PresenceException
     */
    public function isOnline(UserInterface|string|int $user): bool;

    /**
     * Gives a user's connections that count as alive, in the order of their ids.
     *
     * @param UserInterface|string|int $user a user, or his id
     *
     * @return list<Connection>
     *
     * @throws PresenceException
     */
    public function connectionsOfUser(UserInterface|string|int $user): array;

    /**
     * Gives the connections that listen to a subject and count as alive, in the order of their ids.
     *
     * @return list<Connection>
     *
     * @throws PresenceException
     */
    public function connectionsOfSubject(string $subject): array;
}
