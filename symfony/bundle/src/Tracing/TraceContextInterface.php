<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * Where trace context comes from, and where the spans of this bundle go.
 *
 * Implement it to use another tracing system than the bundle's own.
 */
interface TraceContextInterface
{
    /**
     * The W3C traceparent of what is going on now, if it is traced.
     */
    public function traceparent(): ?string;

    /**
     * Runs an operation in a span of its own, below the one that is going on, and gives it the traceparent to send along.
     *
     * An exception of the operation marks the span and passes.
     *
     * @template T
     *
     * @param non-empty-string                          $name       such as "ws.publish"
     * @param array<string, string|int|float|bool|null> $attributes what the span says; never secrets or payloads
     * @param callable(ActiveSpan): T                   $operation
     * @param SpanKind                                  $kind       Producer, or Client where an answer is waited for
     *
     * @return T
     */
    public function produce(
        string $name,
        array $attributes,
        callable $operation,
        SpanKind $kind = SpanKind::Producer,
    ): mixed;
}
