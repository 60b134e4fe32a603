<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer;

/**
 * What a source read: one entry of a stream, or one message of a queue.
 */
final class Entry
{
    /**
     * @param string      $from        the stream or queue
     * @param string      $id          the entry's id there
     * @param string|null $body        the event's JSON; null where there is none
     * @param string      $raw         what a dead letter keeps of it
     * @param int         $deliveries  how often it was given to a worker, this time included
     * @param string|null $problem     why there is no body
     * @param string|null $traceparent trace context that came beside the event
     * @param string|null $destination what spans call the place it came from, if not as $from does
     */
    public function __construct(
        public readonly string $from,
        public readonly string $id,
        public readonly ?string $body,
        public readonly string $raw,
        public readonly int $deliveries,
        public readonly bool $replayed = false,
        public readonly ?string $problem = null,
        public readonly ?string $traceparent = null,
        public readonly ?string $destination = null,
    ) {
    }
}
