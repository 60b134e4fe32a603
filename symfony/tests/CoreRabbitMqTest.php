<?php

declare(strict_types=1);

namespace App\Tests;

/**
 * Core mode by RabbitMQ.
 */
final class CoreRabbitMqTest extends StackTestCase
{
    protected static function kind(): string
    {
        return 'rabbitmq';
    }
}
