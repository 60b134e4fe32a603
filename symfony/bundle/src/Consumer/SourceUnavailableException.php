<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer;

use Snoke\WsBundle\Exception\ExceptionInterface;

/**
 * The broker is away or refuses something; it is worth trying again later.
 */
final class SourceUnavailableException extends \RuntimeException implements ExceptionInterface
{
}
