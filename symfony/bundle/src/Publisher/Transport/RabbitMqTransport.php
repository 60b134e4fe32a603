<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Publisher\Transport;

use Snoke\WsBundle\Amqp\AmqpPublisherInterface;
use Snoke\WsBundle\Amqp\AmqpTarget;
use Snoke\WsBundle\Exception\AmqpException;
use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Publisher\PublishResult;
use Snoke\WsBundle\Publisher\Push;
use Snoke\WsBundle\Tracing\SpanKind;

/**
 * Pushes by a RabbitMQ exchange, and waits for the broker's confirm.
 */
final class RabbitMqTransport implements TracedTransportInterface
{
    private const NAME = 'rabbitmq';

    public function __construct(
        private readonly AmqpPublisherInterface $publisher,
        private readonly ?AmqpTarget $target = null,
    ) {
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

    public function spanKind(): SpanKind
    {
        return SpanKind::Producer;
    }

    public function spanAttributes(): array
    {
        $names = array_filter([$this->target?->exchange, $this->target?->routingKey], static fn (?string $name): bool => null !== $name && '' !== $name);

        return [
            'messaging.system' => 'rabbitmq',
            'messaging.operation.name' => 'publish',
            'messaging.operation.type' => 'send',
            'messaging.destination.name' => [] === $names ? null : implode(':', $names),
            'messaging.rabbitmq.destination.routing_key' => $this->target?->routingKey,
        ];
    }
}
