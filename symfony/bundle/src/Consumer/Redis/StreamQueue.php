<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer\Redis;

use Snoke\WsBundle\Consumer\Entry;

/**
 * What a worker has of one stream: entries that it took and did not come to yet, in their order.
 *
 * @internal
 */
final class StreamQueue
{
    /** @var array<string, Entry|null> by id; null: taken over from another worker, or due again, and to be read yet */
    public array $entries = [];

    /** @var array<string, true> ids of entries that are handled, but that Redis may not know of yet */
    public array $handled = [];

    /** Until when a failed entry holds the stream back. */
    public float $pausedUntil = 0.0;

    /** When to look next for what others left. */
    public float $claimAt = 0.0;

    /** When Redis was last told that the entries are still wanted. */
    public float $refreshedAt = 0.0;

    /** Whether this worker may have entries that it does not know of. */
    public bool $hasForgotten = true;

    /** The last entry that was dealt with, to go on from if the group is gone. */
    public string $lastId = '0';

    public function __construct(public readonly string $stream)
    {
    }

    public function head(): ?string
    {
        return array_key_first($this->entries);
    }

    /**
     * @return list<string>
     */
    public function ids(): array
    {
        return array_map(strval(...), array_keys($this->entries));
    }

    public function forget(): void
    {
        $this->entries = [];
        $this->pausedUntil = 0.0;
        $this->claimAt = 0.0;
        $this->hasForgotten = true;
    }

    public function settled(string $id): void
    {
        unset($this->entries[$id]);
        if (self::compare($id, $this->lastId) > 0) {
            $this->lastId = $id;
        }
    }

    /**
     * Compares ids, which are a time and a number.
     */
    public static function compare(string|int $a, string|int $b): int
    {
        return self::parts((string) $a) <=> self::parts((string) $b);
    }

    /**
     * @return array{int, int}
     */
    private static function parts(string $id): array
    {
        $parts = explode('-', $id, 2);

        return [(int) $parts[0], (int) ($parts[1] ?? 0)];
    }
}
