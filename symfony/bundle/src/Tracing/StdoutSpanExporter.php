<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * Writes one JSON line a span, for trying things out.
 */
final class StdoutSpanExporter implements SpanExporterInterface
{
    public function __construct(
        private readonly string $serviceName = 'symfony',
        private readonly string $stream = 'php://stdout',
    ) {
    }

    public function export(array $spans): void
    {
        $lines = '';
        foreach ($spans as $span) {
            $lines .= json_encode(
                ['service' => $this->serviceName] + OtlpFormat::span($span),
                \JSON_THROW_ON_ERROR | \JSON_UNESCAPED_SLASHES | \JSON_INVALID_UTF8_SUBSTITUTE,
            ) . "\n";
        }
        file_put_contents($this->stream, $lines, \FILE_APPEND);
    }
}
