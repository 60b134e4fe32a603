<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * Traces nothing.
 */
final class NullTraceContext implements TraceContextInterface
{
    public function traceparent(): ?string
    {
        return null;
    }

    public function produce(
        string $name,
        array $attributes,
        callable $operation,
        SpanKind $kind = SpanKind::Producer,
    ): mixed {
        return $operation(new ActiveSpan());
    }
}
