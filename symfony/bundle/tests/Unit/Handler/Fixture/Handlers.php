<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Handler\Fixture;

use Snoke\WsBundle\Attribute\AsWsMessageHandler;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;

final class Handlers
{
    /** @var list<string> */
    public static array $calls = [];

    #[AsWsMessageHandler('chat')]
    public function onChat(array $message): void
    {
        self::$calls[] = 'chat ' . $message['payload'];
    }

    #[AsWsMessageHandler('chat', priority: 10)]
    #[AsWsMessageHandler('ping2', priority: 10)]
    public function early(WebsocketMessageReceivedEvent $event): void
    {
        self::$calls[] = 'first ' . $event->messageType();
    }

    #[AsWsMessageHandler(priority: -10)]
    public function every(WebsocketMessageReceivedEvent $event, array $message): void
    {
        self::$calls[] = 'every ' . $message['type'];
    }
}
