<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Publisher;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Publisher\Push;
use Snoke\WsBundle\Publisher\Transport\HttpTransport;
use Symfony\Component\HttpClient\MockHttpClient;
use Symfony\Component\HttpClient\Response\MockResponse;

final class HttpTransportTest extends TestCase
{
    /** @var list<float> */
    private array $waits = [];

    public function testItCallsTheGateway(): void
    {
        $seen = null;
        $client = new MockHttpClient(static function (string $method, string $url, array $options) use (&$seen): MockResponse {
            $seen = [$method, $url, $options];

            return new MockResponse('{"sent":3,"more":1}');
        });

        $result = $this->transport($client)->publish(Push::create(['a'], 'ü', '00-1-2-01'));

        self::assertSame(['http', 3, null], [$result->transport, $result->sent, $result->messageId]);
        self::assertSame(['POST', 'https://gateway:8000/below/internal/publish'], [$seen[0], $seen[1]]);
        self::assertSame('{"subjects":["a"],"payload":"ü","traceparent":"00-1-2-01"}', $seen[2]['body']);
        self::assertSame(0, $seen[2]['max_redirects']);
        foreach (['X-API-Key: hunter2', 'Content-Type: application/json', 'traceparent: 00-1-2-01'] as $header) {
            self::assertContains($header, $seen[2]['headers']);
        }
    }

    /**
     * @dataProvider answers
     *
     * @param list<MockResponse> $answers
     * @param list<float>        $waits
     */
    #[DataProvider('answers')]
    public function testOnlyWhatWasPutOffIsTriedAgain(array $answers, array $waits, ?string $message, ?int $status): void
    {
        $client = new MockHttpClient($answers);
        try {
            $result = $this->transport($client)->publish(Push::create(['a'], 1));
            self::assertNull($message);
            self::assertSame(1, $result->sent);
        } catch (PublishException $exception) {
            self::assertNotNull($message, $exception->getMessage());
            self::assertStringContainsString($message, $exception->getMessage());
            self::assertStringNotContainsString('hunter2', $exception->getMessage());
            self::assertSame([$status, 'http'], [$exception->statusCode, $exception->transport]);
        }
        self::assertEqualsWithDelta($waits, $this->waits, 0.01);
        self::assertSame(\count($waits) + 1, $client->getRequestsCount());
    }

    /**
     * @return iterable<string, array{list<MockResponse>, list<float>, ?string, ?int}>
     */
    public static function answers(): iterable
    {
        $answer = static fn (int $status, array $headers = [], string $body = ''): MockResponse => new MockResponse($body, ['http_code' => $status, 'response_headers' => $headers]);
        $fine = new MockResponse('{"sent":1}');
        yield 'too many, then fine' => [[$answer(429), $answer(429), $fine], [0.05, 0.1], null, null];
        yield 'too many, with a time' => [[$answer(429, ['Retry-After: 1']), $fine], [1.0], null, null];
        yield 'away for a while' => [[$answer(503, ['Retry-After: 2']), $fine], [2.0], null, null];
        yield 'away until a time that is past' => [[$answer(503, ['Retry-After: Mon, 01 Jan 2024 00:00:00 GMT']), $fine], [0.0], null, null];
        yield 'away for long' => [[$answer(503, ['Retry-After: 60'])], [], 'it answered 503.', 503];
        yield 'away without a time: perhaps it was handled' => [[$answer(503)], [], 'it answered 503.', 503];
        yield 'always too many' => [[$answer(429), $answer(429), $answer(429)], [0.05, 0.1], 'it answered 429.', 429];
        yield 'broken' => [[$answer(500)], [], 'it answered 500.', 500];
        yield 'a time on something else' => [[$answer(500, ['Retry-After: 1'])], [], 'it answered 500.', 500];
        yield 'a redirect' => [[$answer(302, ['Location: http://elsewhere'])], [], 'it answered 302.', 302];
        yield 'what the gateway says' => [[$answer(400, ['Content-Type: application/problem+json'], '{"detail":"`subjects`: missing"}')], [], 'it answered 400. It says: `subjects`: missing', 400];
        yield 'somebody else\'s page' => [[new MockResponse('<html>')], [], 'is not a gateway\'s: "sent" is missing', 200];
        yield 'another shape' => [[new MockResponse('{"sent":"1"}')], [], 'is not a gateway\'s', 200];
        yield 'no answer' => [[new MockResponse('', ['error' => 'Connection reset by peer for "https://hunter2:hunter2@gateway/"'])], [], 'did not take the push: Connection reset by peer.', null];
        yield 'a connection that was refused' => [[new MockResponse('', ['error' => 'Connection refused', 'request_size' => 0]), $fine], [0.05], null, null];
        yield 'one that broke while sending' => [[new MockResponse('', ['error' => 'Broken pipe', 'request_size' => 10])], [], 'Broken pipe.', null];
    }

    private function transport(MockHttpClient $client): HttpTransport
    {
        return new HttpTransport($client, 'https://gateway:8000/below/', 'internal/publish', 'hunter2', sleep: function (float $seconds): void {
            $this->waits[] = $seconds;
        });
    }
}
