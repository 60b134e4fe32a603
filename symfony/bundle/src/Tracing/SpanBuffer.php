<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;

/**
 * Holds finished spans until they are exported in one go, after the answer was sent or when a worker is idle.
 *
 * Tracing must not break what it watches: what cannot be exported is dropped, and after a failure nothing is tried for
 * a while, so that a collector that hangs does not slow a worker down.
 */
final class SpanBuffer
{
    private const MAX_SPANS = 256;
    private const MAX_AGE_SECONDS = 5;
    private const PAUSE_SECONDS = 30;

    /** @var list<Span> */
    private array $spans = [];
    private float $since = 0.0;
    private float $pausedUntil = 0.0;

    public function __construct(
        private readonly SpanExporterInterface $exporter,
        private readonly LoggerInterface $logger = new NullLogger(),
    ) {
    }

    public function add(Span $span): void
    {
        if ([] === $this->spans) {
            $this->since = microtime(true);
        }
        $this->spans[] = $span;
        if (\count($this->spans) >= self::MAX_SPANS) {
            $this->flush();
        }
    }

    /**
     * Exports what has waited for long enough; for workers, which never come to an end.
     */
    public function tick(): void
    {
        if ([] !== $this->spans && microtime(true) - $this->since >= self::MAX_AGE_SECONDS) {
            $this->flush();
        }
    }

    /**
     * Exports everything.
     */
    public function flush(): void
    {
        $spans = $this->spans;
        $this->spans = [];
        if ([] === $spans || microtime(true) < $this->pausedUntil) {
            return;
        }
        try {
            $this->exporter->export($spans);
        } catch (\Throwable $exception) {
            $this->pausedUntil = microtime(true) + self::PAUSE_SECONDS;
            $this->logger->warning('{count} spans could not be exported and are lost; the next try is in {seconds} s.', [
                'count' => \count($spans),
                'seconds' => self::PAUSE_SECONDS,
                'exception' => $exception,
            ]);
        }
    }
}
