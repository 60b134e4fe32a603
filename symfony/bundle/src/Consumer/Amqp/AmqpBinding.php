<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer\Amqp;

/**
 * A queue, and the exchange whose messages it gets.
 */
final class AmqpBinding
{
    /**
     * @param string $exchangeType         type of the exchange, if it has to be declared
     * @param bool   $singleActiveConsumer whether one consumer gets everything until it goes, if the queue has to be declared
     */
    public function __construct(
        public readonly string $queue,
        public readonly string $exchange = '',
        public readonly string $routingKey = '',
        public readonly string $exchangeType = 'direct',
        public readonly bool $singleActiveConsumer = false,
    ) {
    }

    /**
     * What spans call it, as OpenTelemetry's conventions write it: exchange, routing key and, if it is another, queue. Not
     * the key of a message, which may be made of what a client says.
     */
    public function destination(): string
    {
        $key = rtrim($this->routingKey, '.#*');
        $names = [$this->exchange, $key, $this->queue === $key ? '' : $this->queue];

        return implode(':', array_filter($names, static fn (string $name): bool => '' !== $name));
    }
}
