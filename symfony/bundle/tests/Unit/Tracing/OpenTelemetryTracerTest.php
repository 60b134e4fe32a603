<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Tracing;

use OpenTelemetry\API\Globals;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Tracing\ActiveSpan;
use Snoke\WsBundle\Tracing\OpenTelemetryTracer;
use Snoke\WsBundle\Tracing\SpanKind;
use Snoke\WsBundle\Tracing\TracerFactory;

/**
 * In a process of its own, since the stub stays.
 *
 * @runTestsInSeparateProcesses
 *
 * @preserveGlobalState disabled
 */
#[\PHPUnit\Framework\Attributes\RunTestsInSeparateProcesses]
#[\PHPUnit\Framework\Attributes\PreserveGlobalState(false)]
final class OpenTelemetryTracerTest extends TestCase
{
    protected function setUp(): void
    {
        if (class_exists(Globals::class)) {
            self::markTestSkipped('OpenTelemetry is installed.');
        }
        require_once \dirname(__DIR__, 2) . '/Stub/opentelemetry.php';
    }

    public function testSpansStandBelowEachOther(): void
    {
        $tracer = (new TracerFactory(true, 'sdk', null, 'app', 1.0))->create();
        self::assertInstanceOf(OpenTelemetryTracer::class, $tracer);
        $parent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
        try {
            $tracer->receive('ws.connected', $parent, [], static function () use ($tracer): void {
                $sent = $tracer->produce('ws.publish', [], static function (ActiveSpan $span): ?string {
                    $span->set('wsgw.push.connections', 1);

                    return $span->traceparent;
                });
                self::assertSame('00-0af7651916cd43dd8448eb211c80319c-0000000000000002-01', $sent);
                throw new \RuntimeException('s3cret');
            });
        } catch (\RuntimeException) {
            // Passed on.
        }
        self::assertSame([
            ['span', 'ws.connected'], ['parent', $parent], ['kind', 4],
            ['span', 'ws.publish'], ['parent', '00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01'], ['kind', 3], ['wsgw.push.connections', 1], ['end'],
            ['error.type', 'RuntimeException'], ['status', 'Error', 'RuntimeException'], ['end'],
        ], Globals::$log);
        self::assertNull($tracer->traceparent());
    }

    public function testARequestThatTheApplicationTracesItselfGetsNoSecondSpan(): void
    {
        $tracer = new OpenTelemetryTracer();
        $parent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
        // As the SDK's own instrumentation makes it.
        $tracer->receive('GET /', $parent, [], static function () use ($tracer, $parent): void {
            $tracer->receive('POST /hook', $parent, [], static function (ActiveSpan $span) use ($tracer, $parent): void {
                self::assertSame('00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01', $span->traceparent);
                $tracer->receive('ws.connected', $parent, [], static fn () => null);
            }, SpanKind::Server);
        });
        self::assertSame([
            ['span', 'GET /'], ['parent', $parent], ['kind', 4],
            ['span', 'ws.connected'], ['parent', '00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01'], ['kind', 4], ['end'], ['end'],
        ], Globals::$log);
    }
}
