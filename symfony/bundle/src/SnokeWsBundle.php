<?php

declare(strict_types=1);

namespace Snoke\WsBundle;

use Symfony\Component\HttpKernel\Bundle\Bundle;

/**
 * Connects a Symfony application with the wsgw WebSocket gateway.
 */
final class SnokeWsBundle extends Bundle
{
    public function getPath(): string
    {
        return \dirname(__DIR__);
    }
}
