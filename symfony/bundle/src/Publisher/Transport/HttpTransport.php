<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Publisher\Transport;

use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Http\ClientFactory;
use Snoke\WsBundle\Http\Failure;
use Snoke\WsBundle\Publisher\PublishResult;
use Snoke\WsBundle\Publisher\Push;
use Snoke\WsBundle\Setting\Setting;
use Snoke\WsBundle\Tracing\SpanKind;
use Symfony\Contracts\HttpClient\Exception\ExceptionInterface;
use Symfony\Contracts\HttpClient\HttpClientInterface;
use Symfony\Contracts\HttpClient\ResponseInterface;

/**
 * Pushes by POST to one gateway.
 *
 * A push may reach clients though its answer is lost, so only what cannot have been handled is tried again: a request
 * that was never sent, and one that was put off (429, 503 with Retry-After).
 */
final class HttpTransport implements TracedTransportInterface
{
    private const NAME = 'http';

    /** Wait before the first further try; doubled for each one more. */
    private const FIRST_WAIT = 0.05;

    private readonly HttpClientInterface $client;
    private readonly string $url;
    private readonly string $apiKey;
    /** @var \Closure(float): void */
    private readonly \Closure $sleep;

    /**
     * @param \Closure(float): void|null $sleep waits some seconds
     */
    public function __construct(
        ?HttpClientInterface $client,
        ?string $baseUrl,
        ?string $publishPath,
        #[\SensitiveParameter] ?string $apiKey,
        private readonly float $timeoutSeconds = 5.0,
        private readonly int $retries = 2,
        private readonly float $retryMaxSeconds = 2.0,
        ?\Closure $sleep = null,
    ) {
        $this->client = $client ?? ClientFactory::create('"snoke_ws.transport.type: http"');
        $this->url = Setting::url('transport.http.base_url', $baseUrl, ['http', 'https'], 'http://gateway:8000')
            . Setting::path('transport.http.publish_path', $publishPath);
        $this->apiKey = Setting::filled('transport.http.api_key', $apiKey, 'the gateway refuses calls without its server.api_key');
        Setting::number('transport.http.timeout_seconds', $timeoutSeconds, 0.01, 300);
        Setting::number('transport.http.retries', $retries, 0, 10);
        Setting::number('transport.http.retry_max_seconds', $retryMaxSeconds, 0, 60);
        $this->sleep = $sleep ?? static function (float $seconds): void {
            usleep(max(0, (int) ($seconds * 1e6)));
        };
    }

    public function publish(Push $push): PublishResult
    {
        $try = 0;
        while (true) {
            $wait = self::FIRST_WAIT * 2 ** $try;
            $response = null;
            try {
                $response = $this->request($push);
                $status = $response->getStatusCode();
                if (200 === $status) {
                    return $this->result($response);
                }
                $failure = Failure::answered($response);
                $wait = $failure->retryAfter ?? (429 === $status ? $wait : null);
            } catch (ExceptionInterface $exception) {
                $failure = Failure::broken($response, $exception);
                $wait = $failure->wasSent ? null : $wait;
            }
            if (null === $wait || $wait > $this->retryMaxSeconds || $try >= $this->retries) {
                throw new PublishException(sprintf('The gateway did not take the push: %s', $failure->reason), self::NAME, $failure->statusCode, $failure->previous);
            }
            ($this->sleep)($wait);
            ++$try;
        }
    }

    public function spanKind(): SpanKind
    {
        return SpanKind::Client;
    }

    public function spanAttributes(): array
    {
        $url = parse_url($this->url);
        $host = $url['host'] ?? '';

        return [
            'http.request.method' => 'POST',
            // Without a user, a password or a query.
            'url.full' => sprintf('%s://%s%s%s', $url['scheme'] ?? 'http', $host, isset($url['port']) ? ':' . $url['port'] : '', $url['path'] ?? ''),
            'server.address' => trim($host, '[]'),
            'server.port' => $url['port'] ?? ('https' === ($url['scheme'] ?? '') ? 443 : 80),
        ];
    }

    private function request(Push $push): ResponseInterface
    {
        return $this->client->request('POST', $this->url, [
            'headers' => array_filter([
                'Content-Type' => 'application/json',
                'Accept' => 'application/json',
                'X-API-Key' => $this->apiKey,
                'traceparent' => $push->traceparent,
            ]),
            'body' => $push->json,
            'timeout' => $this->timeoutSeconds,
            'max_duration' => $this->timeoutSeconds,
            'max_redirects' => 0,
        ]);
    }

    private function result(ResponseInterface $response): PublishResult
    {
        $answer = json_decode($response->getContent(false), true);
        if (!\is_array($answer) || !\is_int($answer['sent'] ?? null)) {
            throw new PublishException('The answer to the push is not a gateway\'s: "sent" is missing. Is "snoke_ws.transport.http.base_url" the gateway\'s address?', self::NAME, 200);
        }

        return new PublishResult(self::NAME, $answer['sent']);
    }
}
