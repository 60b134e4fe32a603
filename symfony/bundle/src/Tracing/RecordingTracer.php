<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * Makes spans: the gateway's is the parent of the one around its event, which is the parent of those around pushes.
 */
final class RecordingTracer implements TracerInterface
{
    /** @var list<TraceContext> */
    private array $stack = [];

    /**
     * @param float $sampleRate share of new traces that are recorded; one that comes in says itself
     */
    public function __construct(
        private readonly SpanBuffer $buffer,
        private readonly float $sampleRate = 1.0,
    ) {
    }

    public function traceparent(): ?string
    {
        return (end($this->stack) ?: null)?->format();
    }

    public function produce(string $name, array $attributes, callable $operation): mixed
    {
        return $this->run($name, SpanKind::Producer, end($this->stack) ?: null, $attributes, $operation);
    }

    public function receive(
        string $name,
        ?string $traceparent,
        array $attributes,
        callable $operation,
        SpanKind $kind = SpanKind::Consumer,
    ): mixed {
        $operation = static fn (): mixed => $operation();

        return $this->run($name, $kind, TraceContext::parse($traceparent), $attributes, $operation);
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
        $context = $parent?->child() ?? TraceContext::root($this->samples());
        $this->stack[] = $context;
        $start = (int) (microtime(true) * 1e6) * 1000;
        $clock = hrtime(true);
        $error = null;
        try {
            return $operation($context->format());
        } catch (\Throwable $exception) {
            // Its message may hold what a client sent.
            $error = $exception::class;
            throw $exception;
        } finally {
            array_pop($this->stack);
            if ($context->sampled) {
                $this->buffer->add(new Span(
                    $name,
                    $kind,
                    $context,
                    $parent?->spanId,
                    self::withoutNulls($attributes),
                    $start,
                    $start + (int) (hrtime(true) - $clock),
                    $error,
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

    private function samples(): bool
    {
        return $this->sampleRate >= 1.0 || mt_rand() / mt_getrandmax() < $this->sampleRate;
    }
}
