<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence\Store;

use Snoke\WsBundle\Exception\PresenceException;
use Snoke\WsBundle\Http\ClientFactory;
use Snoke\WsBundle\Http\Failure;
use Snoke\WsBundle\Presence\Connection;
use Snoke\WsBundle\Setting\Setting;
use Symfony\Contracts\HttpClient\Exception\ExceptionInterface;
use Symfony\Contracts\HttpClient\HttpClientInterface;

/**
 * Asks a gateway's API. In terminator mode it knows its own clients, with presence in Redis those of all gateways.
 */
final class HttpPresenceStore implements PresenceStoreInterface
{
    /** Connections in one answer. */
    private const PAGE = 1000;

    private readonly HttpClientInterface $client;
    private readonly string $url;
    private readonly string $apiKey;

    public function __construct(
        ?HttpClientInterface $client,
        ?string $baseUrl,
        #[\SensitiveParameter] ?string $apiKey,
        private readonly float $timeoutSeconds = 5.0,
    ) {
        $this->client = $client ?? ClientFactory::create('"snoke_ws.presence.type: http"');
        $this->url = Setting::url('presence.http.base_url', $baseUrl, ['http', 'https'], 'http://gateway:8000') . '/internal/connections';
        $this->apiKey = Setting::filled('presence.http.api_key', $apiKey, 'the gateway refuses calls without its server.api_key');
        Setting::number('presence.http.timeout_seconds', $timeoutSeconds, 0.01, 300);
    }

    public function ofUser(string $userId): iterable
    {
        return $this->pages(['user_id' => $userId]);
    }

    public function ofSubject(string $subject): iterable
    {
        return $this->pages(['subject' => $subject]);
    }

    /**
     * @param array<string, string> $filter
     *
     * @return iterable<Connection>
     */
    private function pages(array $filter): iterable
    {
        if ('' === current($filter)) {
            // To the gateway an empty filter is none, and its answer everybody.
            return;
        }
        $cursor = null;
        do {
            $page = $this->ask($filter + ['limit' => self::PAGE] + (null === $cursor ? [] : ['cursor' => $cursor]));
            foreach ($page['connections'] as $entry) {
                yield ConnectionReader::read($entry) ?? throw self::malformed('connections');
            }
            $next = $page['next_cursor'];
            if (null !== $next && (!\is_string($next) || $next === $cursor)) {
                throw self::malformed('next_cursor');
            }
            $cursor = $next;
        } while (null !== $cursor);
    }

    /**
     * @param array<string, string|int> $query
     *
     * @return array{connections: array<array-key, mixed>, next_cursor: mixed}
     */
    private function ask(array $query): array
    {
        $response = $failure = $page = null;
        try {
            $response = $this->client->request('GET', $this->url, [
                'headers' => ['Accept' => 'application/json', 'X-API-Key' => $this->apiKey],
                'query' => $query,
                'timeout' => $this->timeoutSeconds,
                'max_duration' => $this->timeoutSeconds,
                'max_redirects' => 0,
            ]);
            if (200 !== $response->getStatusCode()) {
                $failure = Failure::answered($response);
            } else {
                $page = json_decode($response->getContent(false), true);
            }
        } catch (ExceptionInterface $exception) {
            $failure = Failure::broken($response, $exception);
        }
        if (null !== $failure) {
            throw new PresenceException(sprintf('The gateway did not say who is online: %s', $failure->reason), 0, $failure->previous);
        }
        if (!\is_array($page) || !\is_array($page['connections'] ?? null)) {
            throw self::malformed('connections');
        }

        return ['connections' => $page['connections'], 'next_cursor' => $page['next_cursor'] ?? null];
    }

    private static function malformed(string $field): PresenceException
    {
        return new PresenceException(sprintf('The answer to who is online is not a gateway\'s: "%s" is missing or malformed. Is "snoke_ws.presence.http.base_url" the gateway\'s address?', $field));
    }
}
