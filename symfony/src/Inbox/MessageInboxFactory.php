<?php

declare(strict_types=1);

namespace App\Inbox;

use Psr\Cache\CacheItemPoolInterface;
use Snoke\WsBundle\Redis\RedisClientFactory;

/**
 * Chooses where the latest messages are kept.
 */
final class MessageInboxFactory
{
    public static function create(
        #[\SensitiveParameter] string $dsn,
        string $stream,
        string $gatewayStream,
        CacheItemPoolInterface $cache,
    ): MessageInbox {
        if ('' === $dsn) {
            return new CacheMessageInbox($cache);
        }

        return new RedisMessageInbox(RedisClientFactory::create($dsn, 'DEMO_INBOX_REDIS_DSN'), $stream, $stream !== $gatewayStream);
    }
}
