<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Dedupe;

use Psr\Cache\CacheItemPoolInterface;
use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;

/**
 * Remembers handled events in a cache pool; several hosts need one that they share.
 */
final class CacheEventDeduplicator implements EventDeduplicatorInterface
{
    public function __construct(
        private readonly ?CacheItemPoolInterface $cache,
        private readonly int $ttlSeconds = 86400,
        private readonly bool $enabled = true,
        private readonly LoggerInterface $logger = new NullLogger(),
    ) {
    }

    public function isHandled(string $eventId): bool
    {
        return $this->pool()?->hasItem(self::key($eventId)) ?? false;
    }

    public function markHandled(string $eventId): void
    {
        $pool = $this->pool();
        if (null === $pool) {
            return;
        }
        $item = $pool->getItem(self::key($eventId));
        $item->set(1)->expiresAfter($this->ttlSeconds);
        if (!$pool->save($item)) {
            // The event was handled all the same, so this is no failure of it.
            $this->logger->warning(
                'The cache did not keep the id of a handled event: should it come again, it is handled again.',
                ['event_id' => $eventId],
            );
        }
    }

    private function pool(): ?CacheItemPoolInterface
    {
        if ($this->enabled && null === $this->cache) {
            $this->logger->warning(
                'Events that come twice are handled twice: there is no cache pool "cache.app". Name another by '
                . '"snoke_ws.dedupe.cache", or switch off "snoke_ws.dedupe.enabled".',
            );
        }

        return $this->enabled ? $this->cache : null;
    }

    /**
     * Ids are what a sender chose; a key of the cache has its own letters and length.
     */
    private static function key(string $eventId): string
    {
        return 'snoke_ws.event.' . substr(hash('sha256', $eventId), 0, 40);
    }
}
