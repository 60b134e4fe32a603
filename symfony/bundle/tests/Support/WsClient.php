<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Support;

/**
 * A WebSocket client (RFC 6455) that is as small as tests allow: text frames below 64 KiB, and close frames.
 */
final class WsClient
{
    /** @var resource */
    private $socket;

    public function __construct(int $port, string $token = '', string $cookie = '')
    {
        $socket = stream_socket_client('tcp://127.0.0.1:' . $port, $code, $message, 5);
        if (false === $socket) {
            throw new \RuntimeException($message);
        }
        stream_set_timeout($socket, 10);
        $this->socket = $socket;
        $lines = [
            'GET /ws HTTP/1.1', 'Host: 127.0.0.1:' . $port, 'Upgrade: websocket', 'Connection: Upgrade',
            'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: ' . base64_encode(random_bytes(16)),
            ...('' === $token ? [] : ['Authorization: Bearer ' . $token]),
            ...('' === $cookie ? [] : ['Cookie: ' . $cookie]),
        ];
        fwrite($socket, implode("\r\n", $lines) . "\r\n\r\n");
        $head = (string) fgets($socket);
        if (!str_starts_with($head, 'HTTP/1.1 101')) {
            throw new \RuntimeException('No upgrade: ' . $head);
        }
        while ("\r\n" !== fgets($socket)) {
            // The other headers do not matter.
        }
    }

    public function send(string $text): void
    {
        $this->frame(1, $text);
    }

    /**
     * The next text message, or "closed CODE REASON".
     */
    public function receive(): string
    {
        while (true) {
            [$first, $second] = array_values((array) unpack('C2', $this->read(2)));
            $length = $second & 0x7F;
            if (126 === $length) {
                $length = unpack('n', $this->read(2))[1];
            } elseif (127 === $length) {
                $length = unpack('J', $this->read(8))[1];
            }
            $payload = $length > 0 ? $this->read($length) : '';
            switch ($first & 0x0F) {
                case 1:
                    return $payload;
                case 8:
                    return trim(sprintf('closed %d %s', unpack('n', $payload . "\0\0")[1], substr($payload, 2)));
                case 9:
                    $this->frame(10, $payload);
            }
        }
    }

    public function close(): void
    {
        $this->frame(8, pack('n', 1000));
        fclose($this->socket);
    }

    private function frame(int $opcode, string $payload): void
    {
        $length = \strlen($payload);
        $mask = random_bytes(4);
        $head = $length < 126 ? pack('CC', 0x80 | $opcode, 0x80 | $length) : pack('CCn', 0x80 | $opcode, 0xFE, $length);
        fwrite($this->socket, $head . $mask . ($payload ^ str_pad('', $length, $mask)));
    }

    private function read(int $length): string
    {
        $bytes = '';
        while (\strlen($bytes) < $length) {
            $part = fread($this->socket, $length - \strlen($bytes));
            if (false === $part || '' === $part) {
                throw new \RuntimeException('The connection ended, or nothing came for 10 seconds.');
            }
            $bytes .= $part;
        }

        return $bytes;
    }
}
