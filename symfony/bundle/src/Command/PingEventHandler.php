<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Command;

use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;

/**
 * Answers the message of `ws:ping` when it comes to the application as an event.
 *
 * It answers users of that command's own only, whose tokens the application made.
 *
 * @internal
 */
final class PingEventHandler
{
    public const TYPE = 'ws.ping';
    public const ANSWER = 'ws.ping.heard';
    public const USER_PREFIX = 'ws-ping.';

    public function __construct(private readonly WebsocketPublisherInterface $publisher)
    {
    }

    public function __invoke(WebsocketMessageReceivedEvent $event): void
    {
        $nonce = $event->message['nonce'] ?? null;
        if (!\is_string($nonce) || \strlen($nonce) > 64 || !str_starts_with($event->userId, self::USER_PREFIX)) {
            return;
        }
        $this->publisher->toUser($event->userId, ['type' => self::ANSWER, 'nonce' => $nonce]);
    }
}
