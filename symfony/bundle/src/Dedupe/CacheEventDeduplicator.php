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
        private readonly CacheItemPoolInterface $cache,
        private readonly int $ttlSeconds = 86400,
        private readonly LoggerInterface $logger = new NullLogger(),
    ) {
    }

    public function isHandled(string $eventId): bool
    {
        return $this->cache->hasItem(self::key($eventId));
    }

    public function markHandled(string $eventId): void
    {
        $item = $this->cache->getItem(self::key($eventId));
        $item->set(1)->expiresAfter($this->ttlSeconds);
        if (!$this->cache->save($item)) {
            // The event was handled all the same, so this is no failure of it.
            $this->logger->warning(
                'The cache did not keep the id of a handled event: should it come again, it is handled again.',
                ['event_id' => $eventId],
            );
        }
    }

    /**
     * Ids are what a sender chose; a key of the cache has its own letters and length.
     */
    private static function key(string $eventId): string
    {
        return 'snoke_ws.event.' . substr(hash('sha256', $eventId), 0, 40);
    }
}
