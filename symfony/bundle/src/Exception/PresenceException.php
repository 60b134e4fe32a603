<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Exception;

/**
 * It could not be found out who is online.
 */
final class PresenceException extends \RuntimeException implements ExceptionInterface
{
}
