<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Client;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Client\WebSocketClient;
use Snoke\WsBundle\Exception\ConnectionException;
use Snoke\WsBundle\Tests\Support\Server;

/**
 * The client of ws:ping and ws:check, against servers that do what RFC 6455 allows, and what it does not.
 */
final class WebSocketClientTest extends TestCase
{
    private const GOOD = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nsec-websocket-accept: ACCEPT\r\n\r\n';

    private ?Server $server = null;

    protected function tearDown(): void
    {
        $this->server?->remove();
    }

    public function testAMessageInFragmentsWithAPingInBetween(): void
    {
        $client = $this->client(self::GOOD, self::frame(0x01, '{"a":'), self::frame(0x89, 'alive?'), self::frame(0x80, '"b"}'));

        self::assertSame(['a' => 'b'], $client->waitFor(static fn (): bool => true));
        $client->close();
        Server::wait('the pong and the close', fn (): bool => 1 === preg_match('/^(8a86|88 ?82)/m', $this->server->output()));
        $sent = (string) hex2bin(str_replace("\n", '', $this->server->output()));
        self::assertSame("\x8a\x86", substr($sent, 0, 2), 'a masked pong of 6 bytes');
        self::assertSame('alive?', substr($sent, 6, 6) ^ str_repeat(substr($sent, 2, 4), 2));
    }

    public function testFramesOfEveryLengthInAnyPieces(): void
    {
        $long = '{"n":1,"text":"' . str_repeat('x', 70000) . '"}';
        $bytes = self::frame(0x81, '{"n":0}') . self::frame(0x81, '{"n":1,"text":"' . str_repeat('x', 300) . '"}') . self::frame(0x81, $long);
        $client = $this->client(self::GOOD, ...str_split($bytes, 30001));

        self::assertSame(['n' => 0], $client->waitFor(static fn (): bool => true));
        self::assertSame(300, \strlen($client->waitFor(static fn (): bool => true)['text']));
        self::assertSame(70000, \strlen($client->waitFor(static fn (): bool => true)['text']));
        self::assertNull($client->waitFor(static fn (): bool => true, 0.05), 'and no more comes');
    }

    public function testACloseIsTold(): void
    {
        $client = $this->client(self::GOOD, self::frame(0x88, pack('n', 4401) . "token\x1b expired"));
        try {
            $client->waitFor(static fn (): bool => true);
            self::fail('no exception');
        } catch (ConnectionException $exception) {
            self::assertSame(4401, $exception->getCode());
            self::assertSame('The gateway closed the connection: 4401 token? expired.', $exception->getMessage());
        }
    }

    /**
     * @dataProvider provideBrokenServers
     *
     * @param list<string> $pieces
     */
    #[DataProvider('provideBrokenServers')]
    public function testABrokenServerIsNamed(string $message, string $head, array $pieces = []): void
    {
        $this->expectException(ConnectionException::class);
        $this->expectExceptionMessage($message);

        $this->client($head, ...$pieces)->waitFor(static fn (): bool => true);
    }

    /**
     * @return iterable<string, array{0: string, 1: string, 2?: list<string>}>
     */
    public static function provideBrokenServers(): iterable
    {
        yield 'another path' => ['server.path', 'HTTP/1.1 404 Not Found\r\n\r\n'];
        yield 'a web page' => ['does a proxy pass the headers', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'];
        yield 'a proxy without a gateway' => ['does not reach the gateway', 'HTTP/1.1 502 Bad Gateway\r\n\r\n'];
        yield 'no HTTP' => ['is no HTTP', 'SSH-2.0-OpenSSH\r\n\r\n'];
        yield 'no end' => ['was not answered in time', 'HTTP/1.1 101 Switching'];
        yield 'a wrong hash' => ['Sec-WebSocket-Accept is wrong', 'HTTP/1.1 101 x\r\nSec-WebSocket-Accept: AAAA\r\n\r\n'];
        yield 'a masked frame' => ['is masked', self::GOOD, ["\x81\x82abcdef"]];
        yield 'an endless message' => ['too large', self::GOOD, ["\x81\x7f" . pack('J', 1 << 40)]];
        yield 'a negative length' => ['too large', self::GOOD, ["\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff"]];
    }

    public function testNobodyThere(): void
    {
        $this->expectException(ConnectionException::class);
        $this->expectExceptionMessage('Nothing answers at 127.0.0.1:1');

        new WebSocketClient('ws://127.0.0.1:1/ws', 'token');
    }

    private function client(string $head, string ...$pieces): WebSocketClient
    {
        $port = Server::port();
        $script = \dirname(__DIR__, 2) . '/Support/scripted-websocket.php';
        $this->server = new Server([\PHP_BINARY, $script, (string) $port, $head, ...array_map(bin2hex(...), $pieces)], Server::directory());
        Server::wait('the server', static fn (): bool => Server::accepts($port));

        return new WebSocketClient('ws://127.0.0.1:' . $port . '/ws', 'token', 1.0);
    }

    private static function frame(int $first, string $payload): string
    {
        $length = \strlen($payload);

        return \chr($first) . match (true) {
            $length < 126 => \chr($length),
            $length < 65536 => "\x7e" . pack('n', $length),
            default => "\x7f" . pack('J', $length),
        } . $payload;
    }
}
