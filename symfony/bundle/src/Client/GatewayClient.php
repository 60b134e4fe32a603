<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Client;

use Snoke\WsBundle\Exception\ConnectionException;
use Snoke\WsBundle\Http\ClientFactory;
use Snoke\WsBundle\Http\Failure;
use Snoke\WsBundle\Presence\Connection;
use Snoke\WsBundle\Presence\Store\ConnectionReader;
use Snoke\WsBundle\Setting\Setting;
use Symfony\Contracts\HttpClient\Exception\ExceptionInterface;
use Symfony\Contracts\HttpClient\HttpClientInterface;

/**
 * Asks one gateway's HTTP API what commands want to know of it.
 *
 * @internal
 */
final class GatewayClient
{
    public function __construct(
        private readonly ?HttpClientInterface $client,
        private readonly ?string $baseUrl,
        #[\SensitiveParameter] private readonly ?string $apiKey,
        private readonly float $timeoutSeconds = 5.0,
    ) {
    }

    public function isConfigured(): bool
    {
        return null !== $this->baseUrl && '' !== $this->baseUrl;
    }

    /**
     * @param array<string, string|int> $query
     *
     * @return array{status: int, json: mixed, date: int|null} whatever the status is
     *
     * @throws ConnectionException if there is no answer
     */
    public function get(string $path, array $query = []): array
    {
        $url = Setting::url('transport.http.base_url', $this->baseUrl, ['http', 'https'], 'http://gateway:8000') . $path;
        $client = $this->client ?? ClientFactory::create('Asking the gateway');
        $response = null;
        try {
            $response = $client->request('GET', $url, [
                'headers' => array_filter(['Accept' => 'application/json', 'X-API-Key' => $this->apiKey]),
                'query' => $query,
                'timeout' => $this->timeoutSeconds,
                'max_duration' => $this->timeoutSeconds,
                'max_redirects' => 0,
            ]);
            $date = strtotime($response->getHeaders(false)['date'][0] ?? '');

            return [
                'status' => $response->getStatusCode(),
                'json' => json_decode($response->getContent(false), true),
                'date' => false === $date ? null : $date,
            ];
        } catch (ExceptionInterface $exception) {
            throw new ConnectionException(sprintf('The gateway does not answer: %s', Failure::broken($response, $exception)->reason), 0, $exception);
        }
    }

    /**
     * Gives one page of all connections.
     *
     * @return list<Connection>
     *
     * @throws ConnectionException
     */
    public function connections(int $limit): array
    {
        $answer = $this->get('/internal/connections', ['limit' => $limit]);
        $entries = \is_array($answer['json']) ? $answer['json']['connections'] ?? null : null;
        if (200 !== $answer['status'] || !\is_array($entries)) {
            throw self::refused($answer['status']);
        }
        $connections = [];
        foreach ($entries as $entry) {
            $connections[] = ConnectionReader::read($entry) ?? throw self::refused(200);
        }

        return $connections;
    }

    private static function refused(int $status): ConnectionException
    {
        return new ConnectionException(match ($status) {
            401 => 'The gateway answered 401: "snoke_ws.transport.http.api_key" is not its server.api_key.',
            403 => 'The gateway answered 403: it has no server.api_key, or a proxy refuses the call.',
            default => sprintf('The answer, %d, is not a gateway\'s: is "snoke_ws.transport.http.base_url" its address?', $status),
        });
    }
}
