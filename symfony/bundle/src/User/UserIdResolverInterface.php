<?php

declare(strict_types=1);

namespace Snoke\WsBundle\User;

use Symfony\Component\Security\Core\User\UserInterface;

/**
 * Gives the id by which the gateway knows a user: that in his token, his subject and presence.
 *
 * Implement it where that is not the user identifier that he signs in with.
 */
interface UserIdResolverInterface
{
    /**
     * @param UserInterface|string|int $user a user, or his id
     *
     * @return non-empty-string
     */
    public function resolve(UserInterface|string|int $user): string;
}
