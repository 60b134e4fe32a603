<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Test;

use Snoke\WsBundle\Publisher\PublishResult;
use Snoke\WsBundle\Publisher\WebsocketPublisher;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;
use Snoke\WsBundle\User\UserIdResolver;
use Snoke\WsBundle\User\UserIdResolverInterface;
use Symfony\Component\Security\Core\User\UserInterface;

/**
 * A publisher for unit tests. It checks pushes as the real one does, and keeps them.
 */
final class InMemoryPublisher implements WebsocketPublisherInterface
{
    private readonly InMemoryTransport $transport;
    private readonly WebsocketPublisher $publisher;

    public function __construct(string $userPrefix = 'user:', UserIdResolverInterface $users = new UserIdResolver())
    {
        $this->transport = new InMemoryTransport();
        $this->publisher = new WebsocketPublisher($this->transport, $userPrefix, $users);
    }

    public function send(array $subjects, mixed $payload): PublishResult
    {
        return $this->publisher->send($subjects, $payload);
    }

    public function toUser(UserInterface|string|int $user, mixed $payload): PublishResult
    {
        return $this->publisher->toUser($user, $payload);
    }

    /**
     * @return list<RecordedPush> in the order they were made
     */
    public function pushes(): array
    {
        return $this->transport->pushes();
    }

    public function reset(): void
    {
        $this->transport->reset();
    }
}
