<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * Where a trace is: a W3C `traceparent`, read and written.
 */
final class TraceContext
{
    private const PATTERN = '/^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/D';

    private function __construct(
        public readonly string $traceId,
        public readonly string $spanId,
        public readonly bool $sampled,
        public readonly bool $isRemote = false,
    ) {
    }

    /**
     * Begins a new trace.
     *
     * Whether it is recorded follows from its id, so that others who take the same share decide the same.
     */
    public static function root(float $sampleRate): self
    {
        $traceId = self::random(16);
        // 56 of the 64 bits that OpenTelemetry's own sampler looks at: a float holds no more of them exactly.
        $sampled = $sampleRate >= 1.0 || hexdec(substr($traceId, 16, 14)) < $sampleRate * 2 ** 56;

        return new self($traceId, self::random(8), $sampled);
    }

    /**
     * Reads a traceparent; anything that is none, as a client may send it, is taken for none at all.
     */
    public static function parse(?string $traceparent): ?self
    {
        if (null === $traceparent || 1 !== preg_match(self::PATTERN, trim($traceparent), $parts)) {
            return null;
        }
        [, $version, $traceId, $spanId, $flags] = $parts;
        if ('ff' === $version || ('00' === $version && isset($parts[5]))) {
            return null;
        }
        if ('' === trim($traceId, '0') || '' === trim($spanId, '0')) {
            return null;
        }

        return new self($traceId, $spanId, 1 === (hexdec($flags) & 1), true);
    }

    /**
     * Gives the context of a span below this one.
     */
    public function child(): self
    {
        return new self($this->traceId, self::random(8), $this->sampled);
    }

    /**
     * Writes the traceparent.
     */
    public function format(): string
    {
        return sprintf('00-%s-%s-%s', $this->traceId, $this->spanId, $this->sampled ? '01' : '00');
    }

    private static function random(int $bytes): string
    {
        do {
            $hex = bin2hex(random_bytes($bytes));
        } while ('' === trim($hex, '0'));

        return $hex;
    }
}
