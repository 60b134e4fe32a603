<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Exception;

/**
 * A well-formed event of a type that this version does not know: skip it, a newer gateway may send such.
 */
final class UnknownEventTypeException extends \UnexpectedValueException implements ExceptionInterface
{
}
