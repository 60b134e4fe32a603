<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Exception;

/**
 * What should be pushed can never be: nobody is named, or the payload is no JSON.
 */
final class InvalidPushException extends \InvalidArgumentException implements ExceptionInterface
{
}
