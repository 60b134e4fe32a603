<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Amqp;

use Snoke\WsBundle\Exception\AmqpException;

/**
 * Publishes to an exchange of RabbitMQ and waits until the broker has confirmed, whichever library does it.
 */
interface AmqpPublisherInterface
{
    /**
     * @param array<string, string> $headers
     *
     * @return bool whether a queue took it
     *
     * @throws AmqpException if it was not confirmed
     */
    public function publish(string $body, string $messageId, array $headers): bool;

    /**
     * Closes the connection; the next message makes a new one.
     */
    public function disconnect(): void;
}
