<?php

declare(strict_types=1);

namespace App\Chat;

use Snoke\WsBundle\Event\WebsocketConnectionClosedEvent;
use Snoke\WsBundle\Event\WebsocketConnectionEstablishedEvent;
use Snoke\WsBundle\Event\WebsocketEvent;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;
use Symfony\Component\EventDispatcher\EventSubscriberInterface;

/**
 * Tells the chat who comes and goes.
 */
final class PresenceAnnouncer implements EventSubscriberInterface
{
    public function __construct(private readonly WebsocketPublisherInterface $publisher)
    {
    }

    public static function getSubscribedEvents(): array
    {
        return [
            WebsocketConnectionEstablishedEvent::class => 'announceArrival',
            WebsocketConnectionClosedEvent::class => 'announceDeparture',
        ];
    }

    public function announceArrival(WebsocketConnectionEstablishedEvent $event): void
    {
        $this->announce('chat.joined', $event);
    }

    public function announceDeparture(WebsocketConnectionClosedEvent $event): void
    {
        $this->announce('chat.left', $event);
    }

    private function announce(string $type, WebsocketEvent $event): void
    {
        if ($event->hasSubject(ChatRelay::SUBJECT)) {
            $this->publisher->send([ChatRelay::SUBJECT], [
                'type' => $type,
                'user' => $event->userId,
                'connection' => $event->connectionId,
            ]);
        }
    }
}
