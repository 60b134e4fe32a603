<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Test;

/**
 * Stands for whatever was pushed.
 *
 * @internal
 */
final class AnyPayload
{
}
