<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Presence;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Exception\InvalidSettingException;
use Snoke\WsBundle\Presence\Connection;
use Snoke\WsBundle\Presence\PresenceInterpreter;

final class PresenceInterpreterTest extends TestCase
{
    /**
     * @dataProvider strategies
     *
     * @param int|null $limit seconds that it counts as alive; null = for ever
     */
    #[DataProvider('strategies')]
    public function testHowLongAConnectionCountsAsAlive(string $strategy, bool $useLastSeen, ?int $limit): void
    {
        $interpreter = new PresenceInterpreter($strategy, 120, 30, 15, $useLastSeen);
        $since = 1700000000;
        $connection = $useLastSeen ? new Connection('c', '42', [], 1, $since) : new Connection('c', '42', [], $since, $since + 99999);

        self::assertTrue($interpreter->isAlive($connection, $since));
        // A clock that is behind is no reason.
        self::assertTrue($interpreter->isAlive($connection, $since - 5));
        if (null === $limit) {
            self::assertTrue($interpreter->isAlive($connection, $since + 10_000_000));
        } else {
            self::assertTrue($interpreter->isAlive($connection, $since + $limit));
            self::assertFalse($interpreter->isAlive($connection, $since + $limit + 1));
        }
    }

    /**
     * @return iterable<string, array{string, bool, ?int}>
     */
    public static function strategies(): iterable
    {
        yield 'none' => ['none', true, null];
        yield 'session' => ['session', true, null];
        yield 'ttl' => ['ttl', true, 135];
        yield 'heartbeat' => ['heartbeat', true, 45];
        yield 'ttl since the start' => ['ttl', false, 135];
        yield 'heartbeat since the start' => ['heartbeat', false, 45];
    }

    public function testASettingOutsideItsSetIsNamed(): void
    {
        $this->expectException(InvalidSettingException::class);
        $this->expectExceptionMessage('"snoke_ws.presence.interpretation.strategy" is "banana"');
        new PresenceInterpreter('banana');
    }
}
