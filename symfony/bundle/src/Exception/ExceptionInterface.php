<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Exception;

/**
 * Marks every exception that this bundle throws by itself.
 */
interface ExceptionInterface extends \Throwable
{
}
