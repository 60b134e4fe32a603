<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * Hands trace context on, from an event to the pushes made while it is handled, and records nothing.
 */
final class PropagatingTracer implements TracerInterface
{
    public function __construct(private readonly ContextStack $contexts = new ContextStack())
    {
    }

    public function traceparent(): ?string
    {
        return $this->contexts->current()?->format();
    }

    public function produce(
        string $name,
        array $attributes,
        callable $operation,
        SpanKind $kind = SpanKind::Producer,
    ): mixed {
        return $operation(new ActiveSpan($this->traceparent()));
    }

    public function receive(
        string $name,
        ?string $traceparent,
        array $attributes,
        callable $operation,
        SpanKind $kind = SpanKind::Consumer,
    ): mixed {
        $context = $this->contexts->parentOf($traceparent);

        return $this->contexts->within($context, static fn () => $operation(new ActiveSpan($context?->format())));
    }
}
