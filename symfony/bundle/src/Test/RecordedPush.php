<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Test;

/**
 * A push as clients would have got it.
 */
final class RecordedPush
{
    /**
     * @param list<string> $subjects
     * @param mixed        $payload  after a way through JSON, with arrays for objects
     */
    public function __construct(
        public readonly array $subjects,
        public readonly mixed $payload,
        public readonly ?string $traceparent = null,
    ) {
    }
}
