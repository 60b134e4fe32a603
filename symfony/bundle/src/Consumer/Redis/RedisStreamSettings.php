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

    /**
     * What spans call a stream: of those that only a pattern names, which may be made of what clients say, what they
     * have in common.
     */
    public function destination(string $stream): string
    {
        if (\in_array($stream, $this->streams, true)) {
            return $stream;
        }
        foreach ($this->streams as $pattern) {
            if (fnmatch($pattern, $stream)) {
                return rtrim(strstr($pattern, '*', true) ?: $pattern, '.');
            }
        }

        return $stream;
    }
}
