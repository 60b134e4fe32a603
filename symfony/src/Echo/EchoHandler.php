<?php

declare(strict_types=1);

namespace App\Echo;

use Snoke\WsBundle\Attribute\AsWsMessageHandler;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;

/**
 * Answers {"type":"echo",…} by a push of the same message: the whole way, there and back.
 */
#[AsWsMessageHandler('echo')]
final class EchoHandler
{
    public function __construct(private readonly WebsocketPublisherInterface $publisher)
    {
    }

    public function __invoke(WebsocketMessageReceivedEvent $event): void
    {
        // Decoded as objects: an empty one would come back as an empty list.
        $this->publisher->toUser($event->userId, ['type' => 'echo', 'message' => json_decode((string) $event->raw)]);
    }
}
