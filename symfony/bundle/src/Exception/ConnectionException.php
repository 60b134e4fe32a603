<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Exception;

/**
 * A WebSocket to the gateway could not be opened, or was lost.
 */
final class ConnectionException extends \RuntimeException implements ExceptionInterface
{
}
