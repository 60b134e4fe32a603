<?php

declare(strict_types=1);

namespace App\Inbox;

use Snoke\WsBundle\Redis\RedisClientInterface;

/**
 * Keeps the latest messages in a Redis stream, written as the gateway writes its inbox.
 */
final class RedisMessageInbox implements MessageInbox
{
    private const KEPT = 1000;

    /**
     * @param bool $writes whether to add; not where the stream is the gateway's own, which has the messages already
     */
    public function __construct(
        private readonly RedisClientInterface $redis,
        private readonly string $stream,
        private readonly bool $writes,
    ) {
    }

    public function add(string $event): void
    {
        if ($this->writes) {
            $this->redis->call('XADD', $this->stream, 'MAXLEN', '~', self::KEPT, '*', 'data', $event);
        }
    }

    public function last(): ?string
    {
        // [[id, [field, value, …]]], or with fields by name where the library makes them so.
        $entries = $this->redis->call('XREVRANGE', $this->stream, '+', '-', 'COUNT', 1);
        $fields = \is_array($entries) && [] !== $entries ? $entries[0][1] ?? [] : [];
        $at = array_search('data', $fields, true);

        return false === $at ? null : (string) $fields[$at + 1];
    }
}
