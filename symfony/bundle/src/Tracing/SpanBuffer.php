<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

use Psr\Cache\CacheItemPoolInterface;
use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;

/**
 * Holds finished spans until they are exported in one go, after the answer was sent or between two events of a worker.
 *
 * Tracing must not break or slow what it watches: nothing is exported while something is handled; what cannot be
 * exported, and what does not fit, is dropped; and after a failure nothing is tried for a while, by this process or,
 * where a cache remembers, by any other, so that a collector that hangs does not keep all workers of a web server.
 */
final class SpanBuffer
{
    private const MAX_SPANS = 2048;
    private const BATCH_SPANS = 256;
    private const MAX_AGE_SECONDS = 5;
    private const PAUSE_SECONDS = 30;
    private const KEY = 'snoke_ws.tracing.paused_until';

    /** @var list<Span> */
    private array $spans = [];
    private int $dropped = 0;
    private float $since = 0.0;
    private float $pausedUntil = 0.0;

    public function __construct(
        private readonly SpanExporterInterface $exporter,
        private readonly LoggerInterface $logger = new NullLogger(),
        private readonly ?CacheItemPoolInterface $cache = null,
    ) {
    }

    public function add(Span $span): void
    {
        if ([] === $this->spans) {
            $this->since = microtime(true);
        }
        if (\count($this->spans) >= self::MAX_SPANS) {
            ++$this->dropped;

            return;
        }
        $this->spans[] = $span;
    }

    /**
     * Exports what has waited for long enough; for workers, which never come to an end.
     */
    public function tick(): void
    {
        if ([] === $this->spans) {
            return;
        }
        if (\count($this->spans) >= self::BATCH_SPANS || microtime(true) - $this->since >= self::MAX_AGE_SECONDS) {
            $this->flush();
        }
    }

    /**
     * Exports everything.
     */
    public function flush(): void
    {
        $spans = $this->spans;
        $dropped = $this->dropped;
        $this->spans = [];
        $this->dropped = 0;
        if ([] === $spans) {
            return;
        }
        if (0 !== $dropped) {
            $this->logger->warning('{count} spans did not fit and are lost.', ['count' => $dropped]);
        }
        if ($this->isPaused()) {
            return;
        }
        try {
            $this->exporter->export($spans);
        } catch (\Throwable $exception) {
            $this->pause();
            $this->logger->warning('{count} spans could not be exported and are lost; the next try is in {seconds} s.', [
                'count' => \count($spans),
                'seconds' => self::PAUSE_SECONDS,
                'exception' => $exception,
            ]);
        }
    }

    private function isPaused(): bool
    {
        $now = microtime(true);
        if ($now < $this->pausedUntil) {
            return true;
        }
        try {
            $item = $this->cache?->getItem(self::KEY);
            $until = null !== $item && $item->isHit() ? $item->get() : null;
        } catch (\Throwable) {
            return false;
        }

        return \is_float($until) && $now < $until;
    }

    private function pause(): void
    {
        $this->pausedUntil = microtime(true) + self::PAUSE_SECONDS;
        try {
            $item = $this->cache?->getItem(self::KEY);
            if (null !== $item) {
                $this->cache?->save($item->set($this->pausedUntil)->expiresAfter(self::PAUSE_SECONDS));
            }
        } catch (\Throwable) {
            // Then this process alone knows.
        }
    }
}
