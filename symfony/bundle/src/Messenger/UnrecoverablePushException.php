<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Messenger;

use Snoke\WsBundle\Exception\ExceptionInterface;
use Symfony\Component\Messenger\Exception\UnrecoverableExceptionInterface;

/**
 * A push that trying again would not help; Messenger does not.
 */
final class UnrecoverablePushException extends \RuntimeException implements ExceptionInterface, UnrecoverableExceptionInterface
{
}
