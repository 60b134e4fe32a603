<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Publisher\Transport;

use Snoke\WsBundle\Tracing\SpanKind;

/**
 * A transport that says of itself what stands in the span of a push.
 */
interface TracedTransportInterface extends TransportInterface
{
    /**
     * Client where the gateway answers, Producer where a broker takes it.
     */
    public function spanKind(): SpanKind;

    /**
     * Where pushes go, by OpenTelemetry's semantic conventions; no secrets.
     *
     * @return array<string, string|int|float|bool|null>
     */
    public function spanAttributes(): array;
}
