<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

use OpenTelemetry\API\Globals;
use Psr\Cache\CacheItemPoolInterface;
use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;
use Snoke\WsBundle\Exception\MissingPackageException;
use Snoke\WsBundle\Http\ClientFactory;
use Snoke\WsBundle\Setting\Setting;
use Symfony\Component\HttpKernel\Event\RequestEvent;

/**
 * Chooses the tracer when it is first needed, since the environment may say which, and tells it of requests and their
 * ends.
 */
final class TracerFactory
{
    private ?SpanBuffer $buffer = null;
    private readonly ContextStack $contexts;

    /**
     * @param string|null                                $headers for the collector, as OTEL_EXPORTER_OTLP_HEADERS has them
     * @param (\Closure(): ?CacheItemPoolInterface)|null $cache   remembers across processes that the collector is away
     */
    public function __construct(
        private readonly bool $enabled,
        private readonly string $exporter,
        private readonly ?string $endpoint,
        private readonly string $serviceName,
        private readonly float $sampleRate,
        #[\SensitiveParameter] private readonly ?string $headers = null,
        private readonly LoggerInterface $logger = new NullLogger(),
        private readonly ?\Closure $cache = null,
    ) {
        $this->contexts = new ContextStack();
    }

    public function create(): TracerInterface
    {
        if (!$this->enabled) {
            return new NullTracer();
        }

        return match (Setting::choice('tracing.exporter', $this->exporter, Setting::EXPORTERS)) {
            'none' => new PropagatingTracer($this->contexts),
            'sdk' => $this->sdk(),
            'stdout' => $this->recording(new StdoutSpanExporter($this->serviceName)),
            'otlp' => $this->recording(new OtlpSpanExporter(
                // Not the application's own: that may try again, and take its time.
                ClientFactory::create('"snoke_ws.tracing.exporter: otlp"'),
                $this->endpoint,
                $this->serviceName,
                $this->headers,
            )),
        };
    }

    /**
     * Makes pushes of a request part of the trace that it came with; the SDK sees to that itself.
     */
    public function begin(RequestEvent $event): void
    {
        if ($this->enabled && $event->isMainRequest()) {
            $this->contexts->begin($event->getRequest()->headers->get('traceparent'));
        }
    }

    /**
     * Exports what waits, once the answer is sent.
     */
    public function terminate(): void
    {
        $this->contexts->begin(null);
        $this->flush();
    }

    /**
     * Exports what waits; listens to the ends of commands.
     */
    public function flush(): void
    {
        $this->buffer?->flush();
    }

    /**
     * Exports what has waited for long; listens to workers.
     */
    public function tick(): void
    {
        $this->buffer?->tick();
    }

    private function recording(SpanExporterInterface $exporter): RecordingTracer
    {
        return new RecordingTracer(
            $this->buffer = new SpanBuffer($exporter, $this->logger, null === $this->cache ? null : ($this->cache)()),
            Setting::number('tracing.sample_rate', $this->sampleRate, 0, 1),
            $this->contexts,
        );
    }

    private function sdk(): OpenTelemetryTracer
    {
        if (!class_exists(Globals::class)) {
            throw MissingPackageException::for('"snoke_ws.tracing.exporter: sdk"', '"composer require open-telemetry/sdk"');
        }

        return new OpenTelemetryTracer();
    }
}
