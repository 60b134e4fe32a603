<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * Hands trace context on, from an event to the pushes made while it is handled, and records nothing.
 */
final class PropagatingTracer implements TracerInterface
{
    /** @var list<TraceContext|null> */
    private array $stack = [];

    public function traceparent(): ?string
    {
        return (end($this->stack) ?: null)?->format();
    }

    public function produce(string $name, array $attributes, callable $operation): mixed
    {
        return $operation($this->traceparent());
    }

    public function receive(
        string $name,
        ?string $traceparent,
        array $attributes,
        callable $operation,
        SpanKind $kind = SpanKind::Consumer,
    ): mixed {
        $this->stack[] = TraceContext::parse($traceparent);
        try {
            return $operation();
        } finally {
            array_pop($this->stack);
        }
    }
}
