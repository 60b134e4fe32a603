<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * Takes finished spans to where they are looked at.
 */
interface SpanExporterInterface
{
    /**
     * @param non-empty-list<Span> $spans
     *
     * @throws \Throwable when they cannot be taken; the caller drops them then
     */
    public function export(array $spans): void;
}
