<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Exception;

/**
 * A push could not be handed over.
 */
final class PublishException extends \RuntimeException implements ExceptionInterface
{
    /**
     * @param string   $transport  "http", "redis_stream" or "rabbitmq"
     * @param int|null $statusCode the gateway's answer, if it is one
     */
    public function __construct(
        string $message,
        public readonly string $transport,
        public readonly ?int $statusCode = null,
        ?\Throwable $previous = null,
    ) {
        parent::__construct($message, 0, $previous);
    }

    /**
     * Tells whether the same push would be refused again until somebody mends something.
     */
    public function isRefusal(): bool
    {
        return \in_array($this->statusCode, [400, 401, 403], true);
    }
}
