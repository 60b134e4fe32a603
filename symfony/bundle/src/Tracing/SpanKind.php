<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * What a span is to the one before it; the numbers are OpenTelemetry's.
 */
enum SpanKind: int
{
    case Server = 2;
    case Client = 3;
    case Producer = 4;
    case Consumer = 5;
}
