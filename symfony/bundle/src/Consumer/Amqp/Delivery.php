<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer\Amqp;

/**
 * One message as RabbitMQ delivered it.
 *
 * @internal
 */
final class Delivery
{
    /**
     * @param array<string, mixed> $headers
     */
    public function __construct(
        public readonly string $queue,
        public readonly int $tag,
        public readonly string $body,
        public readonly array $headers,
        public readonly ?string $messageId,
        public readonly bool $redelivered,
    ) {
    }
}
