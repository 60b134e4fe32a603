<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Publisher;

/**
 * What became of a push.
 */
final class PublishResult
{
    /**
     * @param string      $transport "http", "redis_stream", "rabbitmq" or "in_memory"
     * @param int|null    $sent      connections that it was queued to; null where a broker tells nobody. By HTTP those of
     *                               the gateway that was asked; by RabbitMQ 0 if no gateway listens.
     * @param string|null $messageId the entry's id in the Redis stream, or the message's in RabbitMQ
     */
    public function __construct(
        public readonly string $transport,
        public readonly ?int $sent = null,
        public readonly ?string $messageId = null,
    ) {
    }
}
