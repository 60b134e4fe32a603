<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Exception;

/**
 * No token can be made.
 */
final class TokenException extends \RuntimeException implements ExceptionInterface
{
}
