<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Event;

use Snoke\WsBundle\Exception\MalformedEventException;
use Snoke\WsBundle\Exception\UnknownEventTypeException;

/**
 * Makes event objects of what the gateway writes.
 */
interface EventFactoryInterface
{
    /**
     * @param string|null $traceparent trace context that came beside the event and wins over that within, if well-formed
     *
     * @throws MalformedEventException   when it is no event; the message names what is wrong
     * @throws UnknownEventTypeException when it is one of a type that is not known here
     */
    public function fromJson(string $json, bool $replayed = false, ?string $traceparent = null): WebsocketEvent;

    /**
     * @param array<array-key, mixed> $fields the decoded event
     *
     * @throws MalformedEventException   when it is no event; the message names what is wrong
     * @throws UnknownEventTypeException when it is one of a type that is not known here
     */
    public function fromArray(array $fields, bool $replayed = false): WebsocketEvent;
}
