<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Consumer;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Consumer\Amqp\AmqpBinding;
use Snoke\WsBundle\Consumer\Redis\RedisStreamSettings;

/**
 * What spans call the places that events come from: the conventions' names, and nothing that a client chose.
 */
final class DestinationTest extends TestCase
{
    public function testStreams(): void
    {
        $settings = new RedisStreamSettings(['ws.events', 'ws.inbox', 'ws.inbox.*', 'other.{a}.*'], 'g', 'c');

        self::assertSame('ws.inbox', $settings->destination('ws.inbox'));
        self::assertSame('ws.inbox', $settings->destination('ws.inbox.room:123'));
        self::assertSame('other.{a}', $settings->destination('other.{a}.x'));
        self::assertSame('unknown', $settings->destination('unknown'));
    }

    public function testQueues(): void
    {
        self::assertSame('ws.inbox:ws.inbox', (new AmqpBinding('ws.inbox', 'ws.inbox', 'ws.inbox'))->destination());
        self::assertSame('ws.inbox:ws.inbox', (new AmqpBinding('ws.inbox', 'ws.inbox', 'ws.inbox.#', 'topic'))->destination());
        self::assertSame('logs:warning:mine', (new AmqpBinding('mine', 'logs', 'warning'))->destination());
        self::assertSame('mine', (new AmqpBinding('mine'))->destination());
    }
}
