<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Tracing;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Psr\Cache\CacheItemPoolInterface;
use Snoke\WsBundle\Exception\InvalidSettingException;
use Snoke\WsBundle\Exception\MissingPackageException;
use Snoke\WsBundle\Tests\Integration\App\RecordingLogger;
use Snoke\WsBundle\Tracing\ActiveSpan;
use Snoke\WsBundle\Tracing\ContextStack;
use Snoke\WsBundle\Tracing\NullTracer;
use Snoke\WsBundle\Tracing\OtlpSpanExporter;
use Snoke\WsBundle\Tracing\PropagatingTracer;
use Snoke\WsBundle\Tracing\RecordingTracer;
use Snoke\WsBundle\Tracing\Span;
use Snoke\WsBundle\Tracing\SpanBuffer;
use Snoke\WsBundle\Tracing\SpanExporterInterface;
use Snoke\WsBundle\Tracing\SpanKind;
use Snoke\WsBundle\Tracing\StdoutSpanExporter;
use Snoke\WsBundle\Tracing\TraceContext;
use Snoke\WsBundle\Tracing\TracerFactory;
use Snoke\WsBundle\Tracing\UserNames;
use Symfony\Component\Cache\Adapter\ArrayAdapter;
use Symfony\Component\HttpClient\MockHttpClient;
use Symfony\Component\HttpClient\Response\MockResponse;

final class TracingTest extends TestCase implements SpanExporterInterface
{
    private const PARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

    /** @var list<Span> */
    private array $spans = [];
    private ?\Throwable $failure = null;
    private int $exports = 0;

    public function export(array $spans): void
    {
        ++$this->exports;
        if (null !== $this->failure) {
            throw $this->failure;
        }
        array_push($this->spans, ...$spans);
    }

    public function testATraceparentIsReadAndWritten(): void
    {
        $context = TraceContext::parse(self::PARENT);

        self::assertNotNull($context);
        self::assertSame(self::PARENT, $context->format());
        self::assertTrue($context->sampled);
        self::assertSame($context->traceId, $context->child()->traceId);
        self::assertNotSame($context->spanId, $context->child()->spanId);
        self::assertFalse(TraceContext::parse(substr(self::PARENT, 0, -2) . '00')?->sampled);
        // A later version may have more behind it.
        self::assertNotNull(TraceContext::parse('01' . substr(self::PARENT, 2) . '-more'));
    }

    /**
     * @dataProvider noTraceparents
     */
    #[DataProvider('noTraceparents')]
    public function testWhatIsNoTraceparentIsNone(?string $text): void
    {
        self::assertNull(TraceContext::parse($text));
    }

    /**
     * @return iterable<array{?string}>
     */
    public static function noTraceparents(): iterable
    {
        yield [null];
        yield [''];
        yield ['nonsense'];
        yield [strtoupper(self::PARENT)];
        yield [self::PARENT . '-more'];
        yield [self::PARENT . "\nX-Injected: 1"];
        yield ['ff' . substr(self::PARENT, 2)];
        yield ['00-' . str_repeat('0', 32) . '-b7ad6b7169203331-01'];
        yield ['00-0af7651916cd43dd8448eb211c80319c-' . str_repeat('0', 16) . '-01'];
    }

    public function testTheGatewaysSpanIsTheParentOfThatOfThePush(): void
    {
        $buffer = new SpanBuffer($this);
        $tracer = new RecordingTracer($buffer);
        $sent = null;
        $result = $tracer->receive('ws.message_received', self::PARENT, ['a' => 1, 'b' => null], function () use ($tracer, &$sent): string {
            return $tracer->produce('ws.publish', [], function (ActiveSpan $span) use (&$sent): string {
                $sent = $span->traceparent;

                return 'result';
            });
        }, SpanKind::Server);
        $buffer->flush();

        self::assertSame('result', $result);
        [$push, $message] = $this->spans;
        self::assertSame('0af7651916cd43dd8448eb211c80319c', $message->context->traceId);
        self::assertSame('b7ad6b7169203331', $message->parentSpanId);
        self::assertSame(SpanKind::Server, $message->kind);
        self::assertSame(['a' => 1], $message->attributes);
        self::assertSame($message->context->spanId, $push->parentSpanId);
        self::assertSame(SpanKind::Producer, $push->kind);
        self::assertSame($push->context->format(), $sent);
        self::assertGreaterThanOrEqual($push->end - $push->start, $message->end - $message->start);
        self::assertNull($tracer->traceparent());
    }

    public function testAnExceptionMarksItsSpanWithoutWords(): void
    {
        $buffer = new SpanBuffer($this);
        try {
            (new RecordingTracer($buffer))->receive('x', null, [], static fn () => throw new \RuntimeException('s3cret'));
            self::fail('must pass');
        } catch (\RuntimeException) {
            $buffer->flush();
        }
        self::assertSame(\RuntimeException::class, $this->spans[0]->error);
        self::assertNull($this->spans[0]->parentSpanId);
    }

    public function testWhatIsNotSampledIsHandedOnButNotRecorded(): void
    {
        $buffer = new SpanBuffer($this);
        $tracer = new RecordingTracer($buffer, 0.0);
        $inside = $tracer->receive('x', substr(self::PARENT, 0, -2) . '00', [], static fn () => $tracer->traceparent());
        self::assertStringStartsWith('00-0af7651916cd43dd8448eb211c80319c-', (string) $inside);
        self::assertStringEndsWith('-00', (string) $inside);
        $new = $tracer->produce('y', [], static fn (ActiveSpan $span) => $span->traceparent);
        self::assertStringEndsWith('-00', (string) $new);
        $buffer->flush();
        self::assertSame([], $this->spans);
        // One that comes in says itself.
        $tracer->receive('x', self::PARENT, [], static fn () => null);
        $buffer->flush();
        self::assertCount(1, $this->spans);
    }

    public function testWithoutAnExporterContextIsHandedOnAsItCame(): void
    {
        $tracer = new PropagatingTracer();
        $inside = fn () => $tracer->produce('y', [], static fn (ActiveSpan $span) => $span->traceparent);

        self::assertSame(self::PARENT, $tracer->receive('x', self::PARENT, [], $inside));
        self::assertNull($tracer->receive('x', 'nonsense', [], $inside));
        self::assertNull($inside());
        // Within what is going on, what belongs to it is below it; what does not begins anew.
        $other = '00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
        $sibling = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203339-01';
        $nested = static fn (?string $incoming) => $tracer->receive('x', self::PARENT, [], static fn () => $tracer->receive('y', $incoming, [], $inside));
        self::assertSame([self::PARENT, self::PARENT, $other], [$nested($sibling), $nested(null), $nested($other)]);
    }

    public function testACollectorThatFailsBreaksNothingAndIsLeftInPeace(): void
    {
        $logger = new RecordingLogger();
        $buffer = new SpanBuffer($this, $logger);
        $this->failure = new \RuntimeException('away');
        $tracer = new RecordingTracer($buffer);
        for ($i = 0; $i < 3; ++$i) {
            $tracer->produce('x', [], static fn () => null);
            $buffer->flush();
        }
        self::assertSame(1, $this->exports);
        self::assertSame(['warning: 1 spans could not be exported and are lost; the next try is in 30 s.'], $logger->lines);
    }

    public function testTheBufferIsBounded(): void
    {
        $logger = new RecordingLogger();
        $buffer = new SpanBuffer($this, $logger);
        $tracer = new RecordingTracer($buffer);
        for ($i = 0; $i < 2050; ++$i) {
            $tracer->produce('x', [], static fn () => null);
        }
        // Not while something is handled.
        self::assertSame(0, $this->exports);
        $buffer->flush();
        self::assertCount(2048, $this->spans);
        self::assertSame(['warning: 2 spans did not fit and are lost.'], $logger->lines);
    }

    public function testAWorkerExportsWhatIsManyOrOld(): void
    {
        $buffer = new SpanBuffer($this);
        $tracer = new RecordingTracer($buffer);
        for ($i = 0; $i < 255; ++$i) {
            $tracer->produce('x', [], static fn () => null);
        }
        $buffer->tick();
        self::assertSame(0, $this->exports);
        $tracer->produce('x', [], static fn () => null);
        $buffer->tick();
        self::assertSame(1, $this->exports);
        self::assertCount(256, $this->spans);
    }

    /**
     * Guards against a web server all of whose workers wait for a collector that hangs, each after each answer.
     */
    public function testOtherProcessesLeaveACollectorThatFailsInPeaceToo(): void
    {
        $cache = new ArrayAdapter();
        $this->failure = new \RuntimeException('away');
        for ($process = 0; $process < 3; ++$process) {
            $buffer = new SpanBuffer($this, cache: $cache);
            (new RecordingTracer($buffer))->produce('x', [], static fn () => null);
            $buffer->flush();
        }
        self::assertSame(1, $this->exports);

        // And go on when the time is over.
        $cache->save($cache->getItem('snoke_ws.tracing.paused_until')->set(microtime(true) - 1));
        $this->failure = null;
        $buffer = new SpanBuffer($this, cache: $cache);
        (new RecordingTracer($buffer))->produce('x', [], static fn () => null);
        $buffer->flush();
        self::assertCount(1, $this->spans);
    }

    public function testACacheThatFailsBreaksNothing(): void
    {
        $cache = $this->createStub(CacheItemPoolInterface::class);
        $cache->method('getItem')->willThrowException(new \RuntimeException('away'));
        $this->failure = new \RuntimeException('away, too');
        $buffer = new SpanBuffer($this, cache: $cache);
        (new RecordingTracer($buffer))->produce('x', [], static fn () => null);
        $buffer->flush();
        self::assertSame(1, $this->exports);
    }

    public function testAPushOfARequestBelongsToTheTraceThatTheRequestCameWith(): void
    {
        $contexts = new ContextStack();
        $tracer = new RecordingTracer(new SpanBuffer($this), contexts: $contexts);
        $push = static fn (): ?string => $tracer->produce('x', [], static fn (ActiveSpan $span): ?string => $span->traceparent);
        $contexts->begin(self::PARENT);
        self::assertStringStartsWith('00-0af7651916cd43dd8448eb211c80319c-', (string) $push());
        // An event says itself where it belongs.
        self::assertNull($tracer->receive('x', null, [], static fn (ActiveSpan $span) => strstr((string) $span->traceparent, '0af7651916cd43dd8448eb211c80319c') ?: null));
        $contexts->begin(null);
        self::assertStringNotContainsString('0af7651916cd43dd8448eb211c80319c', (string) $push());
        self::assertNull($tracer->traceparent());
    }

    public function testASpanWithinAnotherOfTheSameTraceIsBelowIt(): void
    {
        $buffer = new SpanBuffer($this);
        $tracer = new RecordingTracer($buffer);
        $tracer->receive('POST /', self::PARENT, [], static function (ActiveSpan $server) use ($tracer): void {
            $server->set('http.response.status_code', 500);
            $server->fail('500');
            // The event has the gateway's other span.
            $sibling = '00-0af7651916cd43dd8448eb211c80319c-aaaaaaaaaaaaaaaa-01';
            $tracer->receive('ws.connected', $sibling, [], static fn () => null);
        }, SpanKind::Server);
        $buffer->flush();

        [$event, $server] = $this->spans;
        self::assertSame('b7ad6b7169203331', $server->parentSpanId);
        self::assertSame($server->context->spanId, $event->parentSpanId);
        self::assertSame([true, false], [$server->isBelowRemote, $event->isBelowRemote]);
        self::assertSame(['500', ['http.response.status_code' => 500]], [$server->error, $server->attributes]);
    }

    public function testUsersAreNamedAsTheGatewayNamesThem(): void
    {
        $hash = ['user.hash' => substr(hash_hmac('sha256', '42', hash('sha256', "wsgw user hash\nkey", true)), 0, 32)];
        self::assertSame($hash, (new UserNames(true, 'key', 'api'))->attributes('42'));
        self::assertSame($hash, (new UserNames(true, '', 'key'))->attributes('42'));
        self::assertSame([], (new UserNames(true))->attributes('42'), 'a hash without a key could be guessed');
        self::assertSame(['user.id' => '42'], (new UserNames(false, 'key'))->attributes('42'));
    }

    public function testTheSampleRateIsThatOfTheRecordedTraces(): void
    {
        $sampled = 0;
        for ($i = 0; $i < 2000; ++$i) {
            $context = TraceContext::root(0.25);
            // The decision can be made again from the id, as OpenTelemetry's own sampler makes it.
            self::assertSame(hexdec(substr($context->traceId, 16, 8)) < 0.25 * 2 ** 32, $context->sampled);
            $sampled += (int) $context->sampled;
        }
        // Far beyond five standard deviations.
        self::assertEqualsWithDelta(500, $sampled, 120);
        self::assertFalse(TraceContext::root(0.0)->sampled);
        self::assertTrue(TraceContext::root(1.0)->sampled);
    }

    public function testOtlp(): void
    {
        $request = $headers = null;
        $client = new MockHttpClient(function (string $method, string $url, array $options) use (&$request, &$headers): MockResponse {
            $request = [$method, $url, json_decode($options['body'], true), $options['normalized_headers']['content-type'][0]];
            $headers = [$options['normalized_headers']['authorization'][0], $options['normalized_headers']['x'][0]];

            return new MockResponse('{}');
        });
        $buffer = new SpanBuffer(new OtlpSpanExporter($client, 'http://collector:4318/', 'app', 'Authorization=Basic%20YTpi, x=1,'));
        $tracer = new RecordingTracer($buffer);
        try {
            $tracer->receive('x', self::PARENT, ['s' => 'text', 'i' => 7, 'f' => 0.5, 'b' => true], static fn () => throw new \LogicException());
        } catch (\LogicException) {
            $buffer->flush();
        }

        self::assertNotNull($request);
        [$method, $url, $body, $type] = $request;
        self::assertSame(['POST', 'http://collector:4318/v1/traces', 'Content-Type: application/json'], [$method, $url, $type]);
        $resource = $body['resourceSpans'][0];
        self::assertSame(['key' => 'service.name', 'value' => ['stringValue' => 'app']], $resource['resource']['attributes'][0]);
        self::assertContains(['key' => 'process.pid', 'value' => ['intValue' => (string) getmypid()]], $resource['resource']['attributes']);
        $span = $resource['scopeSpans'][0]['spans'][0];
        self::assertSame('0af7651916cd43dd8448eb211c80319c', $span['traceId']);
        self::assertSame('b7ad6b7169203331', $span['parentSpanId']);
        self::assertSame(5, $span['kind']);
        self::assertSame(0x301, $span['flags']);
        self::assertSame(['Authorization: Basic YTpi', 'x: 1'], $headers);
        self::assertSame(['code' => 2, 'message' => 'LogicException'], $span['status']);
        self::assertMatchesRegularExpression('/^1\d{18}$/', $span['startTimeUnixNano']);
        self::assertSame([
            ['key' => 's', 'value' => ['stringValue' => 'text']],
            ['key' => 'i', 'value' => ['intValue' => '7']],
            ['key' => 'f', 'value' => ['doubleValue' => 0.5]],
            ['key' => 'b', 'value' => ['boolValue' => true]],
            ['key' => 'error.type', 'value' => ['stringValue' => 'LogicException']],
        ], $span['attributes']);
    }

    public function testACollectorsRefusalIsAFailure(): void
    {
        $exporter = new OtlpSpanExporter(new MockHttpClient(new MockResponse('', ['http_code' => 500])), 'http://collector:4318');
        $this->expectExceptionMessage('The collector answers 500.');
        $exporter->export([new Span('x', SpanKind::Server, TraceContext::root(1.0), null, [], 1, 2)]);
    }

    public function testHeadersThatCannotBeReadAreNotShown(): void
    {
        $exporter = new OtlpSpanExporter(new MockHttpClient(), 'http://collector:4318', headers: 's3cret');
        $this->expectExceptionMessage('"snoke_ws.tracing.headers" must be like "name=value,name=value".');
        $exporter->export([new Span('x', SpanKind::Server, TraceContext::root(1.0), null, [], 1, 2)]);
    }

    public function testStdout(): void
    {
        $file = (string) tempnam(sys_get_temp_dir(), 'spans');
        $span = new Span('x', SpanKind::Server, TraceContext::root(1.0), null, ['a' => "\xff"], 1, 2);
        (new StdoutSpanExporter('app', $file))->export([$span, $span]);
        $lines = file($file, \FILE_IGNORE_NEW_LINES) ?: [];
        unlink($file);

        self::assertCount(2, $lines);
        self::assertSame('app', json_decode($lines[0], true)['service']);
        self::assertSame($span->context->traceId, json_decode($lines[0], true)['traceId']);
    }

    public function testTheFactoryChecksWhatTheEnvironmentSays(): void
    {
        self::assertInstanceOf(NullTracer::class, self::factory(false, 'nonsense')->create());
        self::assertInstanceOf(PropagatingTracer::class, self::factory(true, 'none')->create());
        self::assertInstanceOf(RecordingTracer::class, self::factory(true, 'otlp')->create());
        try {
            self::factory(true, 'sdk')->create();
            self::fail('the SDK is not installed here');
        } catch (MissingPackageException $exception) {
            self::assertStringContainsString('composer require open-telemetry/sdk', $exception->getMessage());
        }
        $this->expectException(InvalidSettingException::class);
        $this->expectExceptionMessage('"snoke_ws.tracing.exporter" is "nonsense"');
        self::factory(true, 'nonsense')->create();
    }

    private static function factory(bool $enabled, string $exporter): TracerFactory
    {
        return new TracerFactory($enabled, $exporter, 'http://collector:4318', 'app', 1.0);
    }
}
