<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * Writes spans as OTLP has them in JSON.
 *
 * @internal
 */
final class OtlpFormat
{
    /**
     * @param list<Span> $spans
     *
     * @return array<string, mixed> an ExportTraceServiceRequest
     */
    public static function request(array $spans, string $serviceName): array
    {
        return ['resourceSpans' => [[
            'resource' => ['attributes' => self::attributes([
                'service.name' => $serviceName,
                'host.name' => (string) gethostname(),
                'process.pid' => (int) getmypid(),
                'telemetry.sdk.name' => 'snoke/ws-bundle',
                'telemetry.sdk.language' => 'php',
            ])],
            'scopeSpans' => [[
                'scope' => ['name' => 'snoke/ws-bundle'],
                'spans' => array_map(self::span(...), $spans),
            ]],
        ]]];
    }

    /**
     * @return array<string, mixed>
     */
    public static function span(Span $span): array
    {
        $written = [
            'traceId' => $span->context->traceId,
            'spanId' => $span->context->spanId,
            'name' => $span->name,
            'kind' => $span->kind->value,
            // 64-bit numbers are strings in the JSON of protocol buffers.
            'startTimeUnixNano' => (string) $span->start,
            'endTimeUnixNano' => (string) $span->end,
            // As the W3C has them, and beside them whether the parent is another process's.
            'flags' => ($span->context->sampled ? 1 : 0) | 0x100 | ($span->isBelowRemote ? 0x200 : 0),
            'attributes' => self::attributes(
                $span->attributes + (null === $span->error ? [] : ['error.type' => $span->error]),
            ),
            'status' => null === $span->error ? new \stdClass() : ['code' => 2, 'message' => $span->error],
        ];
        if (null !== $span->parentSpanId) {
            $written['parentSpanId'] = $span->parentSpanId;
        }

        return $written;
    }

    /**
     * @param array<string, string|int|float|bool> $attributes
     *
     * @return list<array{key: string, value: array<string, string|float|bool>}>
     */
    private static function attributes(array $attributes): array
    {
        $written = [];
        foreach ($attributes as $key => $value) {
            $written[] = ['key' => $key, 'value' => match (true) {
                \is_int($value) => ['intValue' => (string) $value],
                \is_float($value) => ['doubleValue' => $value],
                \is_bool($value) => ['boolValue' => $value],
                default => ['stringValue' => $value],
            }];
        }

        return $written;
    }
}
