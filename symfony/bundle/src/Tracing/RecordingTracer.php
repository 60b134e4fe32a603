<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * Makes spans: the gateway's is the parent of the one around its event, which is the parent of those around pushes.
 */
final class RecordingTracer implements TracerInterface
{
    /**
     * @param float $sampleRate share of new traces that are recorded; one that comes in says itself
     */
    public function __construct(
        private readonly SpanBuffer $buffer,
        private readonly float $sampleRate = 1.0,
        private readonly ContextStack $contexts = new ContextStack(),
    ) {
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
        return $this->run($name, $kind, $this->contexts->current(), $attributes, $operation);
    }

    public function receive(
        string $name,
        ?string $traceparent,
        array $attributes,
        callable $operation,
        SpanKind $kind = SpanKind::Consumer,
    ): mixed {
        return $this->run($name, $kind, $this->contexts->parentOf($traceparent), $attributes, $operation);
    }

    /**
     * @param array<string, string|int|float|bool|null> $attributes
     */
    private function run(
        string $name,
        SpanKind $kind,
        ?TraceContext $parent,
        array $attributes,
        callable $operation,
    ): mixed {
        $context = $parent?->child() ?? TraceContext::root($this->sampleRate);
        $span = new ActiveSpan($context->format());
        $start = (int) (microtime(true) * 1e6) * 1000;
        $clock = hrtime(true);
        $error = null;
        try {
            return $this->contexts->within($context, static fn () => $operation($span));
        } catch (\Throwable $exception) {
            // Its message may hold what a client sent.
            $error = $exception::class;
            throw $exception;
        } finally {
            if ($context->sampled) {
                $this->buffer->add(new Span(
                    $name,
                    $kind,
                    $context,
                    $parent?->spanId,
                    self::withoutNulls($span->attributes() + $attributes),
                    $start,
                    $start + (int) (hrtime(true) - $clock),
                    $span->error() ?? $error,
                    $parent?->isRemote ?? false,
                ));
            }
        }
    }

    /**
     * @param array<string, string|int|float|bool|null> $attributes
     *
     * @return array<string, string|int|float|bool>
     */
    private static function withoutNulls(array $attributes): array
    {
        $some = [];
        foreach ($attributes as $name => $value) {
            if (null !== $value) {
                $some[$name] = $value;
            }
        }

        return $some;
    }
}
