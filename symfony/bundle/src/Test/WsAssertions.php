<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Test;

use PHPUnit\Framework\Assert;

/**
 * Assertions about pushes for a KernelTestCase or WebTestCase whose application has `transport.type: in_memory`.
 *
 * In a test without a kernel, override wsPushes() to give those of an {@see InMemoryPublisher}.
 */
trait WsAssertions
{
    /**
     * Asserts that something was pushed to a subject.
     *
     * @param mixed    $payload what exactly, or a closure that is given each payload and returns whether it is the one;
     *                          left out: anything
     * @param int|null $times   how often exactly; null = at least once
     */
    public static function assertWsPublished(string $subject, mixed $payload = new AnyPayload(), ?int $times = null, string $message = ''): void
    {
        $toSubject = array_filter(static::wsPushes(), static fn (RecordedPush $push): bool => \in_array($subject, $push->subjects, true));
        $isMeant = match (true) {
            $payload instanceof AnyPayload => static fn (): bool => true,
            $payload instanceof \Closure => static fn (RecordedPush $push): bool => [] !== array_filter([$payload($push->payload)]),
            // Compared as clients get it.
            default => static fn (RecordedPush $push): bool => $push->payload === json_decode(json_encode($payload, \JSON_THROW_ON_ERROR | \JSON_PRESERVE_ZERO_FRACTION), true),
        };
        $count = \count(array_filter($toSubject, $isMeant));
        $message = '' === $message ? '' : $message . "\n";
        if (null !== $times) {
            Assert::assertSame($times, $count, $message . sprintf('Number of pushes to "%s". %s', $subject, self::wsSummary()));
        } else {
            Assert::assertGreaterThan(0, $count, $message . sprintf('Nothing of the kind was pushed to "%s". %s', $subject, self::wsSummary()));
        }
    }

    /**
     * Asserts that nothing was pushed, or nothing to a subject.
     */
    public static function assertNothingPublished(?string $subject = null, string $message = ''): void
    {
        $pushes = array_filter(static::wsPushes(), static fn (RecordedPush $push): bool => null === $subject || \in_array($subject, $push->subjects, true));
        $message = '' === $message ? '' : $message . "\n";
        Assert::assertCount(0, $pushes, $message . sprintf('Something was pushed%s. %s', null === $subject ? '' : sprintf(' to "%s"', $subject), self::wsSummary()));
    }

    /**
     * Asserts how many pushes were made.
     */
    public static function assertWsPublishedCount(int $count, string $message = ''): void
    {
        Assert::assertCount($count, static::wsPushes(), '' === $message ? self::wsSummary() : $message);
    }

    /**
     * @return list<RecordedPush>
     */
    protected static function wsPushes(): array
    {
        $transport = static::getContainer()->get(InMemoryTransport::class);
        Assert::assertInstanceOf(InMemoryTransport::class, $transport);

        return $transport->pushes();
    }

    private static function wsSummary(): string
    {
        $pushes = static::wsPushes();
        if ([] === $pushes) {
            return 'There were no pushes at all.';
        }
        $lines = array_map(static fn (RecordedPush $push): string => sprintf('  to %s: %s', implode(', ', $push->subjects), json_encode($push->payload)), $pushes);

        return "The pushes were:\n" . implode("\n", $lines);
    }
}
