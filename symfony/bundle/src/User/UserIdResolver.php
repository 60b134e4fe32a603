<?php

declare(strict_types=1);

namespace Snoke\WsBundle\User;

use Snoke\WsBundle\Exception\InvalidPushException;
use Symfony\Component\Security\Core\User\UserInterface;

/**
 * Takes the user identifier.
 */
final class UserIdResolver implements UserIdResolverInterface
{
    public function resolve(UserInterface|string|int $user): string
    {
        $id = $user instanceof UserInterface ? $user->getUserIdentifier() : (string) $user;
        if ('' === $id || '' === trim($id)) {
            throw new InvalidPushException('The user\'s id is empty.');
        }

        return $id;
    }
}
