<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Event;

/**
 * A client sent a message (`message_received`).
 */
final class WebsocketMessageReceivedEvent extends WebsocketEvent
{
    public const TYPE = 'message_received';

    /**
     * @param array<array-key, mixed> $message  the client's JSON object, or one that wraps other text or a binary frame
     * @param string|null          $raw      the client's text as written; none for a binary frame
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
        public readonly array $message = [],
        public readonly ?string $raw = null,
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
     * Gives the message's own `type`: `raw` for text that is no JSON object, `binary` for a binary frame.
     */
    public function messageType(): ?string
    {
        $type = $this->message['type'] ?? null;

        return \is_string($type) ? $type : null;
    }

    /**
     * Gives what the client sent, byte for byte: its text, or what was in its binary frame.
     */
    public function raw(): string
    {
        if (null !== $this->raw) {
            return $this->raw;
        }
        $payload = $this->message['payload'] ?? '';

        return \is_string($payload) ? (string) base64_decode($payload, true) : '';
    }

    /**
     * Whether the client sent a binary frame.
     */
    public function isBinary(): bool
    {
        return null === $this->raw && 'binary' === $this->messageType();
    }
}
