<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Handler\Fixture;

final class ChatMessage
{
    public function __construct(public readonly string $payload)
    {
    }
}
