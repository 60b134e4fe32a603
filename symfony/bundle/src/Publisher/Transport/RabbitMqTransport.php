<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Publisher\Transport;

use Snoke\WsBundle\Amqp\AmqpPublisherInterface;
use Snoke\WsBundle\Exception\AmqpException;
use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Publisher\PublishResult;
use Snoke\WsBundle\Publisher\Push;

/**
 * Pushes by a RabbitMQ exchange, and waits for the broker's confirm.
 */
final class RabbitMqTransport implements TransportInterface
{
    private const NAME = 'rabbitmq';

    public function __construct(private readonly AmqpPublisherInterface $publisher)
    {
    }

    public function publish(Push $push): PublishResult
    {
        $id = bin2hex(random_bytes(16));
        try {
            $isRouted = $this->publisher->publish($push->json, $id, array_filter(['traceparent' => $push->traceparent]));
        } catch (AmqpException $exception) {
            throw new PublishException(sprintf('RabbitMQ did not take the push: %s', $exception->getMessage()), self::NAME, null, $exception);
        }

        return new PublishResult(self::NAME, $isRouted ? null : 0, $id);
    }
}
