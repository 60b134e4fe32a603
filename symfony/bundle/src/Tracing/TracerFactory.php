<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

use OpenTelemetry\API\Globals;
use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;
use Snoke\WsBundle\Exception\MissingPackageException;
use Snoke\WsBundle\Setting\Setting;
use Symfony\Component\HttpClient\HttpClient;
use Symfony\Contracts\HttpClient\HttpClientInterface;

/**
 * Chooses the tracer when it is first needed, since the environment may say which.
 */
final class TracerFactory
{
    private ?SpanBuffer $buffer = null;

    /**
     * @param (\Closure(): ?HttpClientInterface)|null $client the application's, if it has one
     */
    public function __construct(
        private readonly bool $enabled,
        private readonly string $exporter,
        private readonly ?string $endpoint,
        private readonly string $serviceName,
        private readonly float $sampleRate,
        private readonly ?\Closure $client = null,
        private readonly LoggerInterface $logger = new NullLogger(),
    ) {
    }

    public function create(): TracerInterface
    {
        if (!$this->enabled) {
            return new NullTracer();
        }

        return match (Setting::choice('tracing.exporter', $this->exporter, Setting::EXPORTERS)) {
            'none' => new PropagatingTracer(),
            'sdk' => $this->sdk(),
            'stdout' => $this->recording(new StdoutSpanExporter($this->serviceName)),
            'otlp' => $this->recording(new OtlpSpanExporter($this->client(), $this->endpoint, $this->serviceName)),
        };
    }

    /**
     * Exports what waits; listens to the ends of requests and commands.
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
            $this->buffer = new SpanBuffer($exporter, $this->logger),
            Setting::number('tracing.sample_rate', $this->sampleRate, 0, 1),
        );
    }

    private function sdk(): OpenTelemetryTracer
    {
        if (!class_exists(Globals::class)) {
            throw MissingPackageException::for('"snoke_ws.tracing.exporter: sdk"', '"composer require open-telemetry/sdk"');
        }

        return new OpenTelemetryTracer();
    }

    private function client(): HttpClientInterface
    {
        $client = null === $this->client ? null : ($this->client)();
        if (null !== $client) {
            return $client;
        }
        if (!class_exists(HttpClient::class)) {
            throw MissingPackageException::for('"snoke_ws.tracing.exporter: otlp"', '"composer require symfony/http-client"');
        }

        return HttpClient::create();
    }
}
