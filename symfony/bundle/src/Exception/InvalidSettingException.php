<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Exception;

/**
 * A setting below `snoke_ws` cannot be used; the message begins with its path.
 */
final class InvalidSettingException extends \InvalidArgumentException implements ExceptionInterface
{
}
