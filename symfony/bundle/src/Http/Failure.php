<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Http;

use Symfony\Contracts\HttpClient\Exception\ExceptionInterface;
use Symfony\Contracts\HttpClient\ResponseInterface;

/**
 * Why a call of the gateway's API failed, in words that hold no secret.
 *
 * @internal
 */
final class Failure
{
    private function __construct(
        public readonly string $reason,
        public readonly ?int $statusCode,
        public readonly ?float $retryAfter,
        public readonly bool $wasSent,
        public readonly ?\Throwable $previous,
    ) {
    }

    /**
     * It was answered, but not as wished.
     */
    public static function answered(ResponseInterface $response): self
    {
        $status = $response->getStatusCode();
        $headers = $response->getHeaders(false);
        $reason = match ($status) {
            401 => 'it answered 401: the API key is not the gateway\'s server.api_key.',
            403 => 'it answered 403: the gateway has no server.api_key, or a proxy refuses the call.',
            404 => 'it answered 404: the base URL or path is not that of the gateway\'s internal API.',
            413 => 'it answered 413: the push is larger than the gateway\'s server.max_body_bytes.',
            default => sprintf('it answered %d.', $status),
        };
        // RFC 9457; the gateway's names the field and the kind of value, never the value.
        if (str_starts_with($headers['content-type'][0] ?? '', 'application/problem+json')) {
            $problem = json_decode($response->getContent(false), true);
            if (\is_array($problem) && \is_string($problem['detail'] ?? null)) {
                $reason .= ' It says: ' . (string) preg_replace('/^(.{300}).+$/su', '$1…', $problem['detail']);
            }
        }

        return new self($reason, $status, self::retryAfter($status, $headers['retry-after'][0] ?? null), true, null);
    }

    /**
     * There was no answer, or not all of it.
     */
    public static function broken(?ResponseInterface $response, ExceptionInterface $exception): self
    {
        // A URL may hold a password, and says nothing that the setting does not.
        $message = (string) preg_replace(['~(?: for )?"?https?://[^\s")]*"?~', '~^fopen\(\): ~'], '', $exception->getMessage());

        return new self(rtrim($message, ' .') . '.', null, null, self::wasSent($response), $exception);
    }

    private static function retryAfter(int $status, ?string $header): ?float
    {
        if (null === $header || !\in_array($status, [429, 503], true)) {
            return null;
        }
        if (ctype_digit($header)) {
            return (float) $header;
        }
        $at = strtotime($header);

        return false === $at ? null : (float) max(0, $at - time());
    }

    /**
     * Tells whether anything of the request may have left; where a client does not say, it may.
     */
    private static function wasSent(?ResponseInterface $response): bool
    {
        $info = $response?->getInfo();
        if (!\is_array($info)) {
            return true;
        }
        if (isset($info['request_size'])) {
            // cURL counts what it sent.
            return self::isPositive($info['request_size']) || self::isPositive($info['size_upload'] ?? null);
        }

        // The others' times are zero, too, where a connection was kept; that none was made is only sure where they say so.
        return 0.0 !== ($info['connect_time'] ?? null) || !str_contains((string) ($info['error'] ?? ''), 'Connection refused');
    }

    private static function isPositive(mixed $size): bool
    {
        return (\is_int($size) || \is_float($size)) && $size > 0;
    }
}
