<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Messenger;

/**
 * A push as a Messenger message: sent at once, or by a worker where it is routed to a transport.
 *
 * The payload must survive the transport's serializer: plain arrays and scalars do.
 */
final class WsPush
{
    /**
     * @param list<string> $subjects
     */
    public function __construct(
        public readonly array $subjects,
        public readonly mixed $payload,
    ) {
    }
}
