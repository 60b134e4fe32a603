<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * Trace context that also comes in from outside.
 */
interface TracerInterface extends TraceContextInterface
{
    /**
     * Runs an operation in a span whose parent is outside of this process, or the one that is going on, if that belongs
     * to the same trace.
     *
     * An exception of the operation marks the span and passes.
     *
     * @template T
     *
     * @param non-empty-string                          $name        such as "ws.message_received"
     * @param string|null                               $traceparent what came with it; not trusted to be well-formed
     * @param array<string, string|int|float|bool|null> $attributes  what the span says; never secrets or payloads
     * @param callable(ActiveSpan): T                   $operation
     *
     * @return T
     */
    public function receive(
        string $name,
        ?string $traceparent,
        array $attributes,
        callable $operation,
        SpanKind $kind = SpanKind::Consumer,
    ): mixed;
}
