<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * One finished span.
 */
final class Span
{
    /**
     * @param array<string, string|int|float|bool> $attributes
     * @param int                                  $start      Unix nanoseconds
     * @param int                                  $end        Unix nanoseconds
     * @param string|null                          $error      what ended it: the class of an exception, or a status
     * @param bool                                 $isBelowRemote whether the parent is another process's
     */
    public function __construct(
        public readonly string $name,
        public readonly SpanKind $kind,
        public readonly TraceContext $context,
        public readonly ?string $parentSpanId,
        public readonly array $attributes,
        public readonly int $start,
        public readonly int $end,
        public readonly ?string $error = null,
        public readonly bool $isBelowRemote = false,
    ) {
    }
}
