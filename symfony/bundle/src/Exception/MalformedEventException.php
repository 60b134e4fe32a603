<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Exception;

/**
 * What arrived is no event of the gateway; the message names the field, never its value.
 */
final class MalformedEventException extends \UnexpectedValueException implements ExceptionInterface
{
}
