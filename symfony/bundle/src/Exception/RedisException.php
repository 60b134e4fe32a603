<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Exception;

/**
 * Redis cannot be reached, or refuses a command.
 */
final class RedisException extends \RuntimeException implements ExceptionInterface
{
    /**
     * @param bool $isLost whether the connection failed, so that nothing is known of the command
     */
    public function __construct(string $message, public readonly bool $isLost = false, ?\Throwable $previous = null)
    {
        parent::__construct($message, 0, $previous);
    }

    /**
     * The error's code, such as NOGROUP or WRONGTYPE; empty if it is not an answer of Redis.
     */
    public function code(): string
    {
        return $this->isLost ? '' : (strstr($this->getMessage() . ' ', ' ', true) ?: '');
    }
}
