<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Amqp;

/**
 * Where messages are published to.
 */
final class AmqpTarget
{
    /**
     * @param bool $declare whether to declare the exchange, durable and direct
     */
    public function __construct(
        public readonly string $exchange,
        public readonly string $routingKey,
        public readonly bool $declare,
        public readonly float $timeoutSeconds,
    ) {
    }
}
