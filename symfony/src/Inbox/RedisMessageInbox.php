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
        // [[id, [field, value, …]]]
        $entries = $this->redis->call('XREVRANGE', $this->stream, '+', '-', 'COUNT', 1);
        $entry = \is_array($entries) ? $entries[0] ?? null : null;
        $fields = \is_array($entry) ? $entry[1] ?? null : null;
        foreach (\is_array($fields) ? array_chunk($fields, 2) : [] as $field) {
            if ('data' === $field[0] && \is_string($field[1] ?? null)) {
                return $field[1];
            }
        }

        return null;
    }
}
