<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Event;

/**
 * A connection ended (`disconnected`).
 */
final class WebsocketConnectionClosedEvent extends WebsocketEvent
{
    public const TYPE = 'disconnected';

    /**
     * @param int                  $closeCode 1005 for a close without a code, 1006 when the connection was lost
     * @param string               $reason    the close reason; `node_lost` where the connection's gateway was lost
     * @param list<string>         $subjects
     * @param array<array-key, mixed> $fields
     */
    public function __construct(
        string $eventId,
        string $connectionId,
        string $userId,
        array $subjects,
        int $connectedAt,
        int $seq,
        ?string $traceparent = null,
        ?string $traceId = null,
        ?string $orderingKey = null,
        ?string $orderingStrategy = null,
        bool $replayed = false,
        array $fields = [],
        string $json = '',
        public readonly int $closeCode = 1005,
        public readonly string $reason = '',
    ) {
        parent::__construct(
            $eventId,
            $connectionId,
            $userId,
            $subjects,
            $connectedAt,
            $seq,
            $traceparent,
            $traceId,
            $orderingKey,
            $orderingStrategy,
            $replayed,
            $fields,
            $json,
        );
    }

    public function type(): string
    {
        return self::TYPE;
    }

    /**
     * Whether another gateway tells of this, since the connection's own was lost.
     */
    public function isNodeLost(): bool
    {
        return 1006 === $this->closeCode && 'node_lost' === $this->reason;
    }
}
