<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer\Redis;

/**
 * What is read from Redis, and how.
 */
final class RedisStreamSettings
{
    /**
     * @param list<string> $streams          names, or patterns with `*`
     * @param string       $group            what all workers of an application share
     * @param string       $consumer         name of this worker within it
     * @param int          $batch            entries read at once from each stream
     * @param float        $claimIdleSeconds after which what another worker took is taken from it
     * @param string       $deadLetterStream where entries go that cannot be handled
     * @param bool         $deleteAfterAck   whether handled entries are removed
     */
    public function __construct(
        public readonly array $streams,
        public readonly string $group,
        public readonly string $consumer,
        public readonly int $batch = 20,
        public readonly float $claimIdleSeconds = 60.0,
        public readonly string $deadLetterStream = 'ws.dlq',
        public readonly bool $deleteAfterAck = true,
    ) {
    }
}
