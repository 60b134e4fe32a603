<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

use Snoke\WsBundle\Setting\Setting;
use Symfony\Contracts\HttpClient\HttpClientInterface;

/**
 * Posts spans to a collector, as OTLP over HTTP in JSON.
 */
final class OtlpSpanExporter implements SpanExporterInterface
{
    private const TIMEOUT_SECONDS = 1.0;

    /**
     * @param string|null $endpoint base URL; /v1/traces is appended
     * @param string|null $headers  "name=value,name=value", values as in URLs, as OTEL_EXPORTER_OTLP_HEADERS has them
     */
    public function __construct(
        private readonly HttpClientInterface $client,
        private readonly ?string $endpoint,
        private readonly string $serviceName = 'symfony',
        #[\SensitiveParameter] private readonly ?string $headers = null,
    ) {
    }

    public function export(array $spans): void
    {
        $endpoint = Setting::url('tracing.endpoint', $this->endpoint, ['http', 'https'], 'http://collector:4318');
        $response = $this->client->request('POST', $endpoint . '/v1/traces', [
            'body' => json_encode(
                OtlpFormat::request($spans, $this->serviceName),
                \JSON_THROW_ON_ERROR | \JSON_UNESCAPED_SLASHES | \JSON_INVALID_UTF8_SUBSTITUTE,
            ),
            'headers' => ['Content-Type' => 'application/json'] + $this->headers(),
            'timeout' => self::TIMEOUT_SECONDS,
            'max_duration' => self::TIMEOUT_SECONDS,
            'max_redirects' => 0,
        ]);
        $status = $response->getStatusCode();
        if ($status < 200 || $status >= 300) {
            throw new \RuntimeException(sprintf('The collector answers %d.', $status));
        }
    }

    /**
     * @return array<string, string>
     */
    private function headers(): array
    {
        $headers = [];
        foreach (explode(',', (string) $this->headers) as $pair) {
            $parts = explode('=', $pair, 2);
            if (isset($parts[1]) && '' !== trim($parts[0])) {
                $headers[trim($parts[0])] = rawurldecode(trim($parts[1]));
            } elseif ('' !== trim($pair)) {
                throw Setting::invalid('tracing.headers', 'must be like "name=value,name=value"');
            }
        }

        return $headers;
    }
}
