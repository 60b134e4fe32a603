<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Messenger;

use Snoke\WsBundle\Event\WebsocketEvent;
use Snoke\WsBundle\Handler\EventReceiverInterface;
use Symfony\Component\Messenger\Exception\UnrecoverableMessageHandlingException;

/**
 * Dispatches events that came by Messenger, as those that came any other way.
 */
final class EventMessageHandler
{
    public function __construct(private readonly EventReceiverInterface $receiver)
    {
    }

    public function event(WebsocketEvent $event): void
    {
        $this->receiver->receive($event, 'messenger');
    }

    public function unreadable(UnreadableEvent $event): void
    {
        throw new UnrecoverableMessageHandlingException($event->reason);
    }
}
