<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * Traces nothing.
 */
final class NullTracer implements TracerInterface
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

    public function receive(
        string $name,
        ?string $traceparent,
        array $attributes,
        callable $operation,
        SpanKind $kind = SpanKind::Consumer,
    ): mixed {
        return $operation(new ActiveSpan());
    }
}
