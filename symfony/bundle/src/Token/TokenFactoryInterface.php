<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Token;

use Snoke\WsBundle\Exception\TokenException;
use Symfony\Component\Security\Core\User\UserInterface;

/**
 * Makes the tokens that clients connect to the gateway with.
 */
interface TokenFactoryInterface
{
    /**
     * @param UserInterface|string|int $user       a user, or his id
     * @param list<string>             $subjects   subjects that the connection listens to beside the user's own
     * @param array<string, mixed>     $claims     further claims; they cannot replace those that the factory sets
     * @param int|null                 $ttlSeconds how long it lasts; null = as configured
     *
     * @throws TokenException if there is no key, or it cannot sign
     */
    public function forUser(
        UserInterface|string|int $user,
        array $subjects = [],
        array $claims = [],
        ?int $ttlSeconds = null,
    ): Token;
}
