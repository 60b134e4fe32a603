<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Handler\Fixture;

use Snoke\WsBundle\Attribute\AsWsMessageHandler;

#[AsWsMessageHandler('chat')]
final class Invokable
{
    public function __invoke(): void
    {
        Handlers::$calls[] = 'invoked';
    }
}
