<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Event;

/**
 * What the gateway tells about a connection, whichever way it came.
 *
 * Listen to the three classes that extend this one; they are dispatched by their own names.
 */
abstract class WebsocketEvent
{
    /**
     * @param string               $eventId          unique, and the same on every retry and in every sink
     * @param string               $connectionId     the connection it happened to
     * @param string               $userId           the user's id; a numeric one as its decimal string
     * @param list<string>         $subjects         what the connection listens to, the user's own subject among them
     * @param int                  $connectedAt      Unix seconds of the connection's start
     * @param int                  $seq              the event's place within its connection; connected is 1
     * @param string|null          $traceparent      W3C trace context, where there is one
     * @param string|null          $traceId          the trace id, where there is one
     * @param string|null          $orderingKey      events of one key arrive in the order they were read
     * @param string|null          $orderingStrategy how that key was found: topic or subject
     * @param bool                 $replayed         whether it is sent again by a replay
     * @param array<array-key, mixed> $fields           the whole event as decoded, with what this version does not know
     * @param string               $json             the whole event as it arrived
     */
    public function __construct(
        public readonly string $eventId,
        public readonly string $connectionId,
        public readonly string $userId,
        public readonly array $subjects,
        public readonly int $connectedAt,
        public readonly int $seq,
        public readonly ?string $traceparent = null,
        public readonly ?string $traceId = null,
        public readonly ?string $orderingKey = null,
        public readonly ?string $orderingStrategy = null,
        public readonly bool $replayed = false,
        public readonly array $fields = [],
        private readonly string $json = '',
    ) {
    }

    /**
     * Gives the type as the gateway writes it.
     */
    abstract public function type(): string;

    /**
     * Gives the event's JSON as it arrived, or empty where the event was made by hand.
     */
    final public function json(): string
    {
        return $this->json;
    }

    /**
     * Gives the time of the connection's start.
     */
    final public function connectedAtTime(): \DateTimeImmutable
    {
        return new \DateTimeImmutable('@' . $this->connectedAt);
    }

    /**
     * Whether the connection listens to this subject.
     */
    final public function hasSubject(string $subject): bool
    {
        return \in_array($subject, $this->subjects, true);
    }
}
