<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

use OpenTelemetry\API\Globals;
use OpenTelemetry\API\Trace\Propagation\TraceContextPropagator;
use OpenTelemetry\API\Trace\SpanInterface;
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

    public function produce(
        string $name,
        array $attributes,
        callable $operation,
        SpanKind $kind = SpanKind::Producer,
    ): mixed {
        return $this->run($name, $kind, Context::getCurrent(), $attributes, $operation);
    }

    public function receive(
        string $name,
        ?string $traceparent,
        array $attributes,
        callable $operation,
        SpanKind $kind = SpanKind::Consumer,
    ): mixed {
        $context = Context::getCurrent();
        $around = TraceContext::parse($this->traceparent());
        $incoming = TraceContext::parse($traceparent);
        if (null !== $incoming && $incoming->traceId !== $around?->traceId) {
            $context = TraceContextPropagator::getInstance()->extract(['traceparent' => $traceparent], null, $context);
        } elseif (null !== $around && SpanKind::Server === $kind) {
            // The application's own instrumentation has made one for this request.
            return $operation(new ActiveSpan($around->format()));
        }

        return $this->run($name, $kind, $context, $attributes, $operation);
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
                SpanKind::Client => ApiSpanKind::KIND_CLIENT,
                SpanKind::Producer => ApiSpanKind::KIND_PRODUCER,
                SpanKind::Consumer => ApiSpanKind::KIND_CONSUMER,
            })
            ->setAttributes($attributes)
            ->startSpan();
        $scope = $span->activate();
        $active = new ActiveSpan($this->traceparent());
        $error = null;
        try {
            return $operation($active);
        } catch (\Throwable $exception) {
            // Its message may hold what a client sent.
            $error = $exception::class;
            throw $exception;
        } finally {
            $scope->detach();
            self::end($span, $active, $active->error() ?? $error);
        }
    }

    private static function end(SpanInterface $span, ActiveSpan $active, ?string $error): void
    {
        $span->setAttributes($active->attributes());
        if (null !== $error) {
            $span->setAttribute('error.type', $active->attributes()['error.type'] ?? $error);
            $span->setStatus(StatusCode::STATUS_ERROR, $error);
        }
        $span->end();
    }
}
