<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Handler\Fixture;

use Snoke\WsBundle\Attribute\AsWsMessageHandler;

final class TakesText
{
    #[AsWsMessageHandler('chat')]
    public function onMessage(string $what): void
    {
    }
}
