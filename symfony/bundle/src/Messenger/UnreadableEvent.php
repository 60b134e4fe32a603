<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Messenger;

/**
 * What a transport of Messenger read and is no event: it goes the way of messages that failed, to be looked at, since a
 * serializer that refuses it would end the worker and lose it.
 */
final class UnreadableEvent
{
    /**
     * @param string $raw    what was read
     * @param string $reason why it is no event
     */
    public function __construct(
        public readonly string $raw,
        public readonly string $reason,
    ) {
    }
}
