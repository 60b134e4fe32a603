<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Publisher;

use Snoke\WsBundle\Exception\InvalidPushException;
use Snoke\WsBundle\Exception\PublishException;
use Symfony\Component\Security\Core\User\UserInterface;

/**
 * Pushes to clients.
 */
interface WebsocketPublisherInterface
{
    /**
     * Sends a payload to every connection that listens to one of the subjects, once to each.
     *
     * @param list<string> $subjects such as "room:7"
     * @param mixed        $payload  anything that json_encode() takes; clients get {"type":"event","payload":…}
     *
     * @throws InvalidPushException if it can never be sent
     * @throws PublishException     if it could not be handed over
     */
    public function send(array $subjects, mixed $payload): PublishResult;

    /**
     * Sends a payload to every connection of a user.
     *
     * @param UserInterface|string|int $user a user, or his id
     *
     * @throws InvalidPushException if it can never be sent
     * @throws PublishException     if it could not be handed over
     */
    public function toUser(UserInterface|string|int $user, mixed $payload): PublishResult;
}
