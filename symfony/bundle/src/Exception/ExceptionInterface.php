<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Exception;

/**
 * Marks every exception that this bundle throws.
 *
 * No message holds a key, a token, a password or a payload.
 */
interface ExceptionInterface extends \Throwable
{
}
