<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Publisher;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Exception\InvalidPushException;
use Snoke\WsBundle\Publisher\Push;

final class PushTest extends TestCase
{
    public function testItIsWrittenAsTheGatewayReadsIt(): void
    {
        $push = Push::create(['a' => 'user:42', 'b' => 'Räume/ü'], ['url' => 'https://x/ü', 'n' => 1.0, 'list' => [], 'map' => new \stdClass()], '00-a-b-01');

        self::assertSame('{"subjects":["user:42","Räume/ü"],"payload":{"url":"https://x/ü","n":1.0,"list":[],"map":{}},"traceparent":"00-a-b-01"}', $push->json);
        self::assertSame('{"subjects":["a"],"payload":null}', Push::create(['a'], null)->json);
    }

    /**
     * @dataProvider refused
     *
     * @param array<mixed> $subjects
     */
    #[DataProvider('refused')]
    public function testWhatTheGatewayWouldRefuseIsRefused(array $subjects, mixed $payload, string $message): void
    {
        try {
            Push::create($subjects, $payload);
            self::fail('It was accepted.');
        } catch (InvalidPushException $exception) {
            self::assertStringContainsString($message, $exception->getMessage());
            self::assertStringNotContainsString('hunter2', $exception->getMessage());
        }
    }

    /**
     * @return iterable<string, array{array<mixed>, mixed, string}>
     */
    public static function refused(): iterable
    {
        yield 'nobody' => [[], 1, 'at least one subject'];
        yield 'a number' => [['a', 42], 1, 'Subject 1 must be a string, and is int'];
        yield 'empty' => [['a', ''], 1, 'Subject 1 is blank'];
        yield 'spaces' => [[" \t\n"], 1, 'Subject 0 is blank'];
        yield 'spaces of Unicode' => [["\u{3000}\u{a0}\u{85}"], 1, 'Subject 0 is blank'];
        yield 'not UTF-8' => [["\xff"], 1, 'Subject 0 is blank, or not UTF-8'];
        yield 'not UTF-8 later on' => [["a\xff"], 1, 'cannot be written as JSON'];
        yield 'a payload that is not UTF-8' => [['a'], "hunter2\xff", 'cannot be written as JSON'];
        yield 'a payload that is no number' => [['a'], \NAN, 'cannot be written as JSON'];
        yield 'too many' => [array_fill(0, 10_001, 'a'), 1, 'may have 10000 subjects, and this one has 10001'];
    }

    public function testSubjectsMayBeginWithAnythingVisible(): void
    {
        self::assertSame([' a', "\u{3000}b", 'é'], Push::create([' a', "\u{3000}b", 'é'], 1)->subjects);
        self::assertCount(10_000, Push::create(array_fill(0, 10_000, 'a'), 1)->subjects);
    }

    public function testItsSummaryDoesNotGrow(): void
    {
        self::assertSame('a, b, c', Push::create(['a', 'b', 'c'], 1)->summary());
        self::assertSame('a, b, c and 2 more', Push::create(['a', 'b', 'c', 'd', 'e'], 1)->summary());
    }
}
