<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Exception;

/**
 * RabbitMQ cannot be reached, or refuses something.
 */
final class AmqpException extends \RuntimeException implements ExceptionInterface
{
}
