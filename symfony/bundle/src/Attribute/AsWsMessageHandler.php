<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Attribute;

/**
 * Calls a service for messages of one type, on an invokable class or on a method.
 *
 *     #[AsWsMessageHandler('chat')]
 *     public function onChat(array $message, WebsocketMessageReceivedEvent $event): void
 *
 * A parameter gets the event by its class, the client's message by `array`, and with symfony/serializer a class of
 * yours that the message is denormalized to. A service with the tag `snoke_ws.message_handler` is the same.
 */
#[\Attribute(\Attribute::TARGET_CLASS | \Attribute::TARGET_METHOD | \Attribute::IS_REPEATABLE)]
final class AsWsMessageHandler
{
    /**
     * @param string|null $type     the message's `type`; none: every message
     * @param int         $priority those of a higher priority are called first
     * @param string|null $method   on a class: the method to call, by default `__invoke`
     */
    public function __construct(
        public readonly ?string $type = null,
        public readonly int $priority = 0,
        public readonly ?string $method = null,
    ) {
    }
}
