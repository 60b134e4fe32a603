<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

use OpenTelemetry\API\Globals;
use OpenTelemetry\API\Trace\Propagation\TraceContextPropagator;
use OpenTelemetry\API\Trace\SpanKind as ApiSpanKind;
use OpenTelemetry\API\Trace\StatusCode;
use OpenTelemetry\Context\Context;
use OpenTelemetry\Context\ContextInterface;

/**
 * Hands spans to the official OpenTelemetry SDK, so that they stand among those of the application.
 */
final class OpenTelemetryTracer implements TracerInterface
{
    public function traceparent(): ?string
    {
        $carrier = [];
        TraceContextPropagator::getInstance()->inject($carrier);

        $traceparent = \is_array($carrier) ? $carrier['traceparent'] ?? null : null;

        return \is_string($traceparent) ? $traceparent : null;
    }

    public function produce(string $name, array $attributes, callable $operation): mixed
    {
        return $this->run($name, SpanKind::Producer, Context::getCurrent(), $attributes, fn () => $operation($this->traceparent()));
    }

    public function receive(
        string $name,
        ?string $traceparent,
        array $attributes,
        callable $operation,
        SpanKind $kind = SpanKind::Consumer,
    ): mixed {
        $context = Context::getCurrent();
        if (null !== TraceContext::parse($traceparent)) {
            $context = TraceContextPropagator::getInstance()->extract(['traceparent' => $traceparent], null, $context);
        }

        return $this->run($name, $kind, $context, $attributes, static fn () => $operation());
    }

    /**
     * @param array<string, string|int|float|bool|null> $attributes
     */
    private function run(
        string $name,
        SpanKind $kind,
        ContextInterface $parent,
        array $attributes,
        callable $operation,
    ): mixed {
        $span = Globals::tracerProvider()->getTracer('snoke/ws-bundle')
            ->spanBuilder($name)
            ->setParent($parent)
            ->setSpanKind(match ($kind) {
                // Numbered otherwise than in OTLP.
                SpanKind::Server => ApiSpanKind::KIND_SERVER,
                SpanKind::Producer => ApiSpanKind::KIND_PRODUCER,
                SpanKind::Consumer => ApiSpanKind::KIND_CONSUMER,
            })
            ->setAttributes($attributes)
            ->startSpan();
        $scope = $span->activate();
        try {
            return $operation();
        } catch (\Throwable $exception) {
            $span->setStatus(StatusCode::STATUS_ERROR, $exception::class);
            throw $exception;
        } finally {
            $scope->detach();
            $span->end();
        }
    }
}
