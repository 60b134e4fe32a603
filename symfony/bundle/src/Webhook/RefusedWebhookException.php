<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Webhook;

use Snoke\WsBundle\Exception\ExceptionInterface;

/**
 * A request is not signed as it must be. Why is for the log: a forger is told nothing.
 */
final class RefusedWebhookException extends \RuntimeException implements ExceptionInterface
{
}
