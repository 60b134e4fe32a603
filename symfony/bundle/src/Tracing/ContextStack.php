<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * Where the process is in its traces: spans within spans, below what a request came with.
 *
 * @internal
 */
final class ContextStack
{
    /** @var list<TraceContext|null> */
    private array $stack = [];
    private ?TraceContext $request = null;

    /**
     * Takes the traceparent of the request that is handled from now on, or null when it is over.
     */
    public function begin(?string $traceparent): void
    {
        $this->request = TraceContext::parse($traceparent);
    }

    public function current(): ?TraceContext
    {
        return [] === $this->stack ? $this->request : $this->stack[\count($this->stack) - 1];
    }

    /**
     * The parent of what came with a traceparent: the span that it is handled in, if that is of the same trace.
     */
    public function parentOf(?string $traceparent): ?TraceContext
    {
        $incoming = TraceContext::parse($traceparent);
        $around = [] === $this->stack ? null : $this->current();
        if (null === $around || (null !== $incoming && $incoming->traceId !== $around->traceId)) {
            return $incoming;
        }

        return $around;
    }

    /**
     * Runs an operation below a context.
     *
     * @template T
     *
     * @param callable(): T $operation
     *
     * @return T
     */
    public function within(?TraceContext $context, callable $operation): mixed
    {
        $this->stack[] = $context;
        try {
            return $operation();
        } finally {
            array_pop($this->stack);
        }
    }
}
