<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Consumer;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Consumer\Shards;
use Snoke\WsBundle\Exception\InvalidSettingException;

final class ShardsTest extends TestCase
{
    /**
     * @dataProvider keys
     */
    #[DataProvider('keys')]
    public function testAShardIsThatOfTheGateway(string $key, int $crc, int $shard): void
    {
        self::assertSame(sprintf('%u', $crc), sprintf('%u', crc32($key)));
        self::assertSame($shard, Shards::of($key, 16));
        self::assertSame(0, Shards::of($key, 1));
    }

    /**
     * @return iterable<string, array{string, int, int}> as in the gateway's tests and docs/core.md
     */
    public static function keys(): iterable
    {
        yield 'empty' => ['', 0x00000000, 0];
        yield 'the check value' => ['123456789', 0xcbf43926, 6];
        yield 'a room' => ['room:123', 0x8636d9fe, 14];
        yield 'another' => ['room:7', 0x521429a5, 5];
        yield 'a user' => ['user:42', 0x646f0d86, 6];
        yield 'bytes, not characters' => ['a b/é', 0x5e48f3cc, 12];
        yield 'as it is' => [' padded ', 0x1f818792, 2];
        yield 'far away' => ['日本', 0xc7b7cdcc, 12];
        yield 'a connection' => ['0192f5a8-4d2a-7c55-b3e7-1f4d8a6c9e02', 0x8b2d40cf, 15];
    }

    public function testSelections(): void
    {
        self::assertSame([2], Shards::select(['2'], 16));
        self::assertSame([0, 1, 2, 3], Shards::select(['0-3'], 4));
        self::assertSame([0, 1, 8, 9, 10], Shards::select(['8-10,0', '1', '9'], 16));
        self::assertSame(['q.0', 'q.2'], Shards::names('q', [0, 2]));
        self::assertSame([[], [0, 1]], [Shards::all(0), Shards::all(2)]);
    }

    /**
     * @dataProvider wrong
     */
    #[DataProvider('wrong')]
    public function testWrongSelectionsAreNamed(string $selection, int $count, string $message): void
    {
        $this->expectException(InvalidSettingException::class);
        $this->expectExceptionMessage($message);
        Shards::select([$selection], $count);
    }

    /**
     * @return iterable<string, array{string, int, string}>
     */
    public static function wrong(): iterable
    {
        yield 'beyond the last' => ['4', 4, '--shards asks for "4", and the shards are those from 0 to 3.'];
        yield 'partly beyond' => ['0-4', 4, 'from 0 to 3'];
        yield 'backwards' => ['3-1', 4, '"3-1"'];
        yield 'no number' => ['x', 4, 'not "x"'];
        yield 'negative' => ['-1', 4, 'not "-1"'];
        yield 'nothing' => ['', 4, 'not ""'];
        yield 'no shards' => ['0', 0, 'set "partitions"'];
    }

    public function testASettingIsANumberOrAList(): void
    {
        $counts = array_map(static fn (mixed $value): int => Shards::count('events.redis_stream.partitions', $value), [16, '16', 0, '', null, [], ['ws.inbox.*']]);
        self::assertSame([16, 16, 0, 0, 0, 0, 0], $counts);
        foreach ([1025, -1, 'many', '1.5', true] as $wrong) {
            try {
                Shards::count('events.redis_stream.partitions', $wrong);
                self::fail('It was accepted.');
            } catch (InvalidSettingException $exception) {
                self::assertStringContainsString('"snoke_ws.events.redis_stream.partitions"', $exception->getMessage());
            }
        }
    }
}
