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
        public readonly string $exchange = '',
        public readonly string $routingKey = '',
    ) {
    }

    /**
     * What it came by, as OpenTelemetry's conventions write it: exchange, routing key and, if it is another, queue.
     */
    public function destination(): string
    {
        $names = [$this->exchange, $this->routingKey, $this->queue === $this->routingKey ? '' : $this->queue];

        return implode(':', array_filter($names, static fn (string $name): bool => '' !== $name));
    }
}
