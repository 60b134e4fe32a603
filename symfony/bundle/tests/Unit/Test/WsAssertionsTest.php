<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Test;

use PHPUnit\Framework\AssertionFailedError;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Test\InMemoryPublisher;
use Snoke\WsBundle\Test\WsAssertions;

final class WsAssertionsTest extends TestCase
{
    use WsAssertions;

    private static InMemoryPublisher $publisher;

    protected function setUp(): void
    {
        self::$publisher = new InMemoryPublisher();
    }

    public function testWhatWasPushedIsFound(): void
    {
        self::$publisher->send(['room:7', 'room:8'], ['text' => 'hello', 'n' => 1.0]);
        self::$publisher->toUser('42', null);

        self::assertWsPublished('room:7');
        self::assertWsPublished('room:8', ['text' => 'hello', 'n' => 1.0]);
        self::assertWsPublished('room:8', static fn (array $payload): bool => 'hello' === $payload['text']);
        self::assertWsPublished('user:42', null, 1);
        self::assertWsPublished('user:42', 'anything else', 0);
        self::assertWsPublishedCount(2);
        self::assertNothingPublished('room:9');
    }

    public function testObjectsAreComparedAsClientsGetThem(): void
    {
        $payload = new class implements \JsonSerializable {
            public function jsonSerialize(): array
            {
                return ['at' => 'noon'];
            }
        };
        self::$publisher->send(['a'], $payload);

        self::assertWsPublished('a', ['at' => 'noon']);
        self::assertWsPublished('a', $payload);
    }

    /**
     * @testWith ["published"]
     *           ["payload"]
     *           ["times"]
     *           ["count"]
     *           ["nothing"]
     */
    #[\PHPUnit\Framework\Attributes\TestWith(['published'])]
    #[\PHPUnit\Framework\Attributes\TestWith(['payload'])]
    #[\PHPUnit\Framework\Attributes\TestWith(['times'])]
    #[\PHPUnit\Framework\Attributes\TestWith(['count'])]
    #[\PHPUnit\Framework\Attributes\TestWith(['nothing'])]
    public function testTheyFailAndShowWhatWasPushed(string $which): void
    {
        self::$publisher->send(['room:7'], 'hello');
        try {
            match ($which) {
                'published' => self::assertWsPublished('room:8'),
                'payload' => self::assertWsPublished('room:7', 'bye'),
                'times' => self::assertWsPublished('room:7', 'hello', 2),
                'count' => self::assertWsPublishedCount(2),
                'nothing' => self::assertNothingPublished(),
            };
        } catch (AssertionFailedError $error) {
            self::assertStringContainsString('to room:7: "hello"', $error->getMessage());

            return;
        }
        self::fail('It held.');
    }

    public function testNothingIsLeftAfterAReset(): void
    {
        self::$publisher->send(['a'], 1);
        self::$publisher->reset();

        self::assertNothingPublished();
    }

    protected static function wsPushes(): array
    {
        return self::$publisher->pushes();
    }
}
