<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Client;

use Snoke\WsBundle\Exception\ConnectionException;

/**
 * A WebSocket client (RFC 6455) for short conversations: text messages, one connection, no extensions.
 *
 * It blocks, up to the given time for everything it does. Of commands it is enough; an application that holds
 * connections wants an event loop.
 *
 * @internal
 */
final class WebSocketClient
{
    /** What is appended to the key before it is hashed (section 1.3). */
    private const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
    private const MAX_MESSAGE_BYTES = 16777216;
    private const MAX_HEADER_BYTES = 65536;

    /** @var resource */
    private $stream;
    private string $buffer = '';

    /**
     * @param float $timeoutSeconds for the whole of opening, and for each message after it
     *
     * @throws ConnectionException
     */
    public function __construct(
        string $url,
        #[\SensitiveParameter] string $token,
        private readonly float $timeoutSeconds = 5.0,
    ) {
        $end = microtime(true) + $timeoutSeconds;
        $parts = parse_url($url) ?: [];
        $isSecure = 'wss' === strtolower($parts['scheme'] ?? '');
        $host = $parts['host'] ?? '';
        $port = $parts['port'] ?? ($isSecure ? 443 : 80);
        $context = stream_context_create(['ssl' => ['peer_name' => trim($host, '[]'), 'SNI_enabled' => true]]);
        $address = sprintf('%s://%s:%d', $isSecure ? 'tls' : 'tcp', $host, $port);
        $stream = @stream_socket_client($address, $code, $message, $timeoutSeconds, \STREAM_CLIENT_CONNECT, $context);
        if (false === $stream) {
            $why = '' === $message ? (error_get_last()['message'] ?? 'unknown') : $message;
            throw new ConnectionException(sprintf('Nothing answers at %s:%d (%s).', $host, $port, $why));
        }
        $this->stream = $stream;
        stream_set_blocking($stream, false);
        $key = base64_encode(random_bytes(16));
        $this->write(implode("\r\n", [
            'GET ' . ($parts['path'] ?? '/') . (isset($parts['query']) ? '?' . $parts['query'] : '') . ' HTTP/1.1',
            'Host: ' . $host . (isset($parts['port']) ? ':' . $port : ''),
            'Upgrade: websocket',
            'Connection: Upgrade',
            'Sec-WebSocket-Key: ' . $key,
            'Sec-WebSocket-Version: 13',
            'Authorization: Bearer ' . $token,
        ]) . "\r\n\r\n", $end);
        $this->shakeHands($key, $end);
    }

    /**
     * @throws ConnectionException
     */
    public function send(string $text): void
    {
        $this->frame(1, $text, microtime(true) + $this->timeoutSeconds);
    }

    /**
     * Gives the next text message that is as wished; others are dropped.
     *
     * @param \Closure(array<array-key, mixed>): bool $isIt gets the message's JSON object
     *
     * @return array<array-key, mixed>|null null if none came in time
     *
     * @throws ConnectionException if the gateway closes
     */
    public function waitFor(\Closure $isIt, ?float $seconds = null): ?array
    {
        $end = microtime(true) + ($seconds ?? $this->timeoutSeconds);
        while (null !== $text = $this->receive($end)) {
            $message = json_decode($text, true);
            if (\is_array($message) && $isIt($message)) {
                return $message;
            }
        }

        return null;
    }

    public function close(): void
    {
        if (!\is_resource($this->stream)) {
            return;
        }
        try {
            $this->frame(8, pack('n', 1000), microtime(true) + 1);
        } catch (ConnectionException) {
            // It is closed already.
        }
        fclose($this->stream);
    }

    private function shakeHands(string $key, float $end): void
    {
        $at = strpos($this->buffer, "\r\n\r\n");
        while (false === $at) {
            if (\strlen($this->buffer) > self::MAX_HEADER_BYTES) {
                throw new ConnectionException('The answer to the handshake has no end: is this a WebSocket server?');
            }
            if (!$this->fill($end)) {
                throw new ConnectionException('The handshake was not answered in time.');
            }
            $at = strpos($this->buffer, "\r\n\r\n");
        }
        $lines = explode("\r\n", substr($this->buffer, 0, $at));
        $this->buffer = substr($this->buffer, $at + 4);
        $status = 1 === preg_match('~^HTTP/1\.[01] (\d{3})~', $lines[0], $found) ? (int) $found[1] : 0;
        if (101 !== $status) {
            throw new ConnectionException(match ($status) {
                0 => 'The answer to the handshake is no HTTP: is this a WebSocket server?',
                401 => 'The gateway answered 401: it does not accept the token.',
                403 => 'The gateway, or a proxy before it, answered 403.',
                404 => 'The answer is 404: the path of the URL is not the gateway\'s server.path.',
                502, 503, 504 => sprintf('The answer is %d: a proxy does not reach the gateway, or the gateway is stopping or full.', $status),
                default => sprintf('The answer is %d, not an upgrade to WebSocket: does a proxy pass the headers Upgrade and Connection?', $status),
            });
        }
        $accept = base64_encode(sha1($key . self::GUID, true));
        foreach ($lines as $line) {
            if (0 === stripos($line, 'sec-websocket-accept:') && trim(substr($line, 21)) === $accept) {
                return;
            }
        }
        throw new ConnectionException('The upgrade is not that of a WebSocket server: Sec-WebSocket-Accept is wrong.');
    }

    private function receive(float $end): ?string
    {
        $message = '';
        while (null !== $head = $this->take(2, $end)) {
            [$first, $length] = [\ord($head[0]), \ord($head[1])];
            if (0 !== ($length & 0x80)) {
                throw new ConnectionException('A frame of the server is masked.');
            }
            if ($length >= 126) {
                $bytes = $this->take(126 === $length ? 2 : 8, $end);
                $length = null === $bytes ? 0 : unpack(126 === $length ? 'n' : 'J', $bytes)[1];
            }
            if ($length < 0 || $length + \strlen($message) > self::MAX_MESSAGE_BYTES) {
                throw new ConnectionException('A message is too large.');
            }
            $payload = $this->take($length, $end);
            if (null === $payload) {
                return null;
            }
            switch ($first & 0x0F) {
                case 0:
                case 1:
                    $message .= $payload;
                    if (0 !== ($first & 0x80)) {
                        return $message;
                    }
                    break;
                case 8:
                    throw $this->closed($payload);
                case 9:
                    $this->frame(10, $payload, $end);
            }
        }

        return null;
    }

    private function closed(string $payload): ConnectionException
    {
        $code = \strlen($payload) >= 2 ? \ord($payload[0]) << 8 | \ord($payload[1]) : 1005;
        $reason = (string) preg_replace('/[^\x20-\x7e]/', '?', substr($payload, 2, 123));

        return new ConnectionException(sprintf('The gateway closed the connection: %d%s.', $code, '' === $reason ? '' : ' ' . $reason), $code);
    }

    private function frame(int $opcode, string $payload, float $end): void
    {
        $length = \strlen($payload);
        $head = match (true) {
            $length < 126 => pack('CC', 0x80 | $opcode, 0x80 | $length),
            $length < 65536 => pack('CCn', 0x80 | $opcode, 0xFE, $length),
            default => pack('CCJ', 0x80 | $opcode, 0xFF, $length),
        };
        $mask = random_bytes(4);
        /** @var string $masked */
        $masked = $payload ^ str_pad('', $length, $mask);
        $this->write($head . $mask . $masked, $end);
    }

    private function write(string $bytes, float $end): void
    {
        while ('' !== $bytes) {
            $written = @fwrite($this->stream, $bytes);
            if (false === $written || (0 === $written && feof($this->stream))) {
                throw new ConnectionException('The connection was lost.');
            }
            $bytes = substr($bytes, $written);
            if ('' !== $bytes && !$this->select(false, $end)) {
                throw new ConnectionException('The gateway does not read in time.');
            }
        }
    }

    private function take(int $length, float $end): ?string
    {
        while (\strlen($this->buffer) < $length) {
            if (!$this->fill($end)) {
                return null;
            }
        }
        $bytes = substr($this->buffer, 0, $length);
        $this->buffer = substr($this->buffer, $length);

        return $bytes;
    }

    /**
     * Reads what there is, waiting for some; false if none came in time.
     */
    private function fill(float $end): bool
    {
        while (true) {
            // TLS may hold decrypted bytes that select() knows nothing of, so that reading comes first.
            $bytes = @fread($this->stream, 65536);
            if (false !== $bytes && '' !== $bytes) {
                $this->buffer .= $bytes;

                return true;
            }
            if (feof($this->stream)) {
                throw new ConnectionException('The connection was lost.');
            }
            if (!$this->select(true, $end)) {
                return false;
            }
        }
    }

    private function select(bool $toRead, float $end): bool
    {
        $left = $end - microtime(true);
        if ($left <= 0) {
            return false;
        }
        $read = $toRead ? [$this->stream] : null;
        $write = $toRead ? null : [$this->stream];
        $none = null;

        return 0 < (int) @stream_select($read, $write, $none, (int) $left, (int) (1e6 * ($left - (int) $left)));
    }
}
