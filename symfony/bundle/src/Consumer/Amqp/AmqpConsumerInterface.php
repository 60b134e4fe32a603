<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer\Amqp;

use Snoke\WsBundle\Exception\AmqpException;

/**
 * One connection to RabbitMQ, whichever library holds it.
 *
 * Every method may throw {@see AmqpException}, after which only {@see close} is of use.
 *
 * @internal
 */
interface AmqpConsumerInterface
{
    public function connect(): void;

    /**
     * Whether there is a queue of this name; what it is like does not matter.
     */
    public function hasQueue(string $name): bool;

    /**
     * Declares a durable exchange, unless there is one of this name, whatever its type.
     */
    public function declareExchange(string $name, string $type): void;

    /**
     * Declares a durable queue.
     *
     * @param array<string, string|bool> $arguments
     */
    public function declareQueue(string $name, array $arguments): void;

    public function bind(string $queue, string $exchange, string $routingKey): void;

    /**
     * Asks for the messages of a queue.
     */
    public function consume(string $queue, int $prefetch): void;

    /**
     * Gives the next message; null if none came in this time.
     */
    public function next(float $seconds): ?Delivery;

    public function ack(Delivery $delivery): void;

    /**
     * Publishes a persistent message, and returns when a queue has it.
     *
     * @param array<string, string|int> $headers
     */
    public function publish(string $exchange, string $routingKey, string $body, ?string $messageId, array $headers): void;

    /**
     * Shows that this side lives.
     */
    public function heartbeat(): void;

    public function close(): void;
}
