<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer\Amqp;

/**
 * What is read from RabbitMQ, and how.
 */
final class AmqpSettings
{
    /**
     * @param list<AmqpBinding> $bindings           the queues, and what they are bound to
     * @param bool              $declare            whether to declare what is missing
     * @param int               $prefetch           messages that are taken at once
     * @param string            $deadLetterExchange where messages go that cannot be handled
     * @param string            $deadLetterQueue    the queue that is bound to it by its own name
     */
    public function __construct(
        public readonly array $bindings,
        public readonly bool $declare = true,
        public readonly int $prefetch = 20,
        public readonly string $deadLetterExchange = 'ws.dlq',
        public readonly string $deadLetterQueue = 'ws.dlq',
    ) {
    }
}
