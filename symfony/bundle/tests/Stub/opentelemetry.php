<?php

// The part of OpenTelemetry's PHP API that this bundle calls, for where it is not installed. It writes down calls.

declare(strict_types=1);

namespace OpenTelemetry\Context {
    interface ContextInterface
    {
    }

    interface ScopeInterface
    {
        public function detach(): int;
    }

    final class Context implements ContextInterface
    {
        /** @var list<self> */
        public static array $stack = [];

        public function __construct(public readonly ?string $traceparent = null)
        {
        }

        public static function getCurrent(): ContextInterface
        {
            return end(self::$stack) ?: new self();
        }
    }
}

namespace OpenTelemetry\API\Trace {
    use OpenTelemetry\Context\ContextInterface;
    use OpenTelemetry\Context\ScopeInterface;

    interface TracerProviderInterface
    {
        public function getTracer(string $name): TracerInterface;
    }

    interface TracerInterface
    {
        public function spanBuilder(string $spanName): SpanBuilderInterface;
    }

    interface SpanBuilderInterface
    {
        public function setParent(ContextInterface|false|null $context): self;

        public function setSpanKind(int $spanKind): self;

        public function setAttributes(iterable $attributes): self;

        public function startSpan(): SpanInterface;
    }

    interface SpanInterface
    {
        public function activate(): ScopeInterface;

        public function setAttributes(iterable $attributes): self;

        public function setAttribute(string $key, mixed $value): self;

        public function setStatus(string $code, ?string $description = null): self;

        public function end(?int $endEpochNanos = null): void;
    }

    interface SpanKind
    {
        public const KIND_CLIENT = 1;
        public const KIND_SERVER = 2;
        public const KIND_PRODUCER = 3;
        public const KIND_CONSUMER = 4;
    }

    interface StatusCode
    {
        public const STATUS_ERROR = 'Error';
    }
}

namespace OpenTelemetry\API\Trace\Propagation {
    use OpenTelemetry\Context\Context;
    use OpenTelemetry\Context\ContextInterface;

    final class TraceContextPropagator
    {
        public static function getInstance(): self
        {
            return new self();
        }

        public function inject(mixed &$carrier, ?object $setter = null, ?ContextInterface $context = null): void
        {
            $context ??= Context::getCurrent();
            if ($context instanceof Context && null !== $context->traceparent) {
                $carrier['traceparent'] = $context->traceparent;
            }
        }

        public function extract(mixed $carrier, ?object $getter = null, ?ContextInterface $context = null): ContextInterface
        {
            return new Context($carrier['traceparent']);
        }
    }
}

namespace OpenTelemetry\API {
    use OpenTelemetry\API\Trace\SpanBuilderInterface;
    use OpenTelemetry\API\Trace\SpanInterface;
    use OpenTelemetry\API\Trace\TracerInterface;
    use OpenTelemetry\API\Trace\TracerProviderInterface;
    use OpenTelemetry\Context\Context;
    use OpenTelemetry\Context\ContextInterface;
    use OpenTelemetry\Context\ScopeInterface;

    final class Globals
    {
        /** @var list<array<mixed>> */
        public static array $log = [];

        public static function tracerProvider(): TracerProviderInterface
        {
            return new class () implements TracerProviderInterface, TracerInterface, SpanBuilderInterface, SpanInterface, ScopeInterface {
                private Context $parent;
                private Context $own;

                public function getTracer(string $name): self
                {
                    return $this;
                }

                public function spanBuilder(string $spanName): self
                {
                    Globals::$log[] = ['span', $spanName];

                    return $this;
                }

                public function setParent(ContextInterface|false|null $context): self
                {
                    \assert($context instanceof Context);
                    $this->parent = $context;
                    Globals::$log[] = ['parent', $context->traceparent];

                    return $this;
                }

                public function setSpanKind(int $spanKind): self
                {
                    Globals::$log[] = ['kind', $spanKind];

                    return $this;
                }

                public function setAttributes(iterable $attributes): self
                {
                    foreach ($attributes as $key => $value) {
                        $this->setAttribute($key, $value);
                    }

                    return $this;
                }

                public function setAttribute(string $key, mixed $value): self
                {
                    Globals::$log[] = [$key, $value];

                    return $this;
                }

                public function startSpan(): self
                {
                    $this->own = new Context(substr($this->parent->traceparent ?? '00-' . str_repeat('9', 32), 0, 35) . '-000000000000000' . (1 + \count(Context::$stack)) . '-01');

                    return $this;
                }

                public function activate(): self
                {
                    Context::$stack[] = $this->own;

                    return $this;
                }

                public function detach(): int
                {
                    array_pop(Context::$stack);

                    return 0;
                }

                public function setStatus(string $code, ?string $description = null): SpanInterface
                {
                    Globals::$log[] = ['status', $code, $description];

                    return $this;
                }

                public function end(?int $endEpochNanos = null): void
                {
                    Globals::$log[] = ['end'];
                }
            };
        }
    }
}
