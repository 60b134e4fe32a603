<?php

declare(strict_types=1);

namespace App\Inbox;

use Psr\Cache\CacheItemPoolInterface;

/**
 * Keeps the latest message in the application's cache: enough for one machine, and for terminator mode without a Redis.
 */
final class CacheMessageInbox implements MessageInbox
{
    private const KEY = 'demo.last_message';

    public function __construct(private readonly CacheItemPoolInterface $cache)
    {
    }

    public function add(string $event): void
    {
        $this->cache->save($this->cache->getItem(self::KEY)->set($event));
    }

    public function last(): ?string
    {
        $event = $this->cache->getItem(self::KEY)->get();

        return \is_string($event) ? $event : null;
    }
}
