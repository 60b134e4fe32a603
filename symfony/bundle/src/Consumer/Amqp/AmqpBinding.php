<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer\Amqp;

/**
 * A queue, and the exchange whose messages it gets.
 */
final class AmqpBinding
{
    /**
     * @param string $exchangeType type of the exchange, if it has to be declared
     */
    public function __construct(
        public readonly string $queue,
        public readonly string $exchange = '',
        public readonly string $routingKey = '',
        public readonly string $exchangeType = 'direct',
    ) {
    }
}
