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
    ) {
    }

    /**
     * Begins a new trace.
     */
    public static function root(bool $sampled): self
    {
        return new self(self::random(16), self::random(8), $sampled);
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

        return new self($traceId, $spanId, 1 === (hexdec($flags) & 1));
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
