<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Handler\Fixture;

use Snoke\WsBundle\Attribute\AsWsMessageHandler;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;

#[AsWsMessageHandler('chat', method: 'onChat')]
final class TakesObject
{
    public function onChat(ChatMessage $message, WebsocketMessageReceivedEvent $event): void
    {
        Handlers::$calls[] = 'object ' . $message->payload . ' by ' . $event->userId;
    }
}
