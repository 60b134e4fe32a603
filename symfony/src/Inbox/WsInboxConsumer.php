<?php

declare(strict_types=1);

namespace App\Inbox;

use Snoke\WsBundle\Attribute\AsWsMessageHandler;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;

/**
 * Puts every message of a client into the inbox, whichever way it came.
 */
#[AsWsMessageHandler(priority: -10)]
final class WsInboxConsumer
{
    public function __construct(private readonly MessageInbox $inbox)
    {
    }

    public function __invoke(WebsocketMessageReceivedEvent $event): void
    {
        $this->inbox->add($event->json());
    }
}
