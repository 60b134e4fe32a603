<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Exception;

/**
 * Throw it from a handler where trying the same event again cannot help: it becomes a dead letter at once.
 *
 * Its message is kept as the reason, so do not put what a client sent into it.
 */
final class UnprocessableEventException extends \RuntimeException implements ExceptionInterface
{
}
