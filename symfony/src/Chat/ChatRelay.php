<?php

declare(strict_types=1);

namespace App\Chat;

use Psr\Log\LoggerInterface;
use Snoke\WsBundle\Attribute\AsWsMessageHandler;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Snoke\WsBundle\Presence\PresenceProviderInterface;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;

/**
 * Hands on what the chat's clients say to each other.
 *
 * It sees who talks to whom and public keys, and of messages the ciphertext only. The sender's name is the one that
 * his token proves, never one that the message claims.
 */
final class ChatRelay
{
    /** What every client of the chat listens to. */
    public const SUBJECT = 'chat';

    private const MAX_BYTES = 16384;

    public function __construct(
        private readonly WebsocketPublisherInterface $publisher,
        private readonly PresenceProviderInterface $presence,
        private readonly LoggerInterface $logger,
    ) {
    }

    /**
     * Somebody is there, with this public key: tells all, and tells him who else is.
     *
     * @param array<string, mixed> $message
     */
    #[AsWsMessageHandler('chat.hello')]
    public function hello(array $message, WebsocketMessageReceivedEvent $event): void
    {
        $fields = $this->fields($message, ['key'], $event);
        if (null === $fields || !$event->hasSubject(self::SUBJECT)) {
            return;
        }
        $roster = [];
        foreach ($this->presence->connectionsOfSubject(self::SUBJECT) as $connection) {
            $roster[] = ['user' => $connection->userId, 'connection' => $connection->connectionId];
        }
        $this->publisher->toUser($event->userId, ['type' => 'chat.roster', 'connections' => $roster]);
        $this->publisher->send([self::SUBJECT], ['type' => 'chat.hello'] + self::sender($event) + $fields);
    }

    /**
     * An answer to somebody's hello.
     *
     * @param array<string, mixed> $message
     */
    #[AsWsMessageHandler('chat.key')]
    public function key(array $message, WebsocketMessageReceivedEvent $event): void
    {
        $this->handOn('chat.key', $message, ['key'], $event);
    }

    /**
     * @param array<string, mixed> $message
     */
    #[AsWsMessageHandler('chat.sealed')]
    public function sealed(array $message, WebsocketMessageReceivedEvent $event): void
    {
        $this->handOn('chat.sealed', $message, ['from_key', 'to_key', 'number', 'iv', 'sealed'], $event);
    }

    /**
     * @param array<string, mixed> $message
     * @param list<string>         $names
     */
    private function handOn(string $type, array $message, array $names, WebsocketMessageReceivedEvent $event): void
    {
        $fields = $this->fields($message, ['to', ...$names], $event);
        if (null === $fields || !$event->hasSubject(self::SUBJECT)) {
            return;
        }
        $this->publisher->toUser($fields['to'], ['type' => $type] + self::sender($event) + $fields);
    }

    /**
     * @return array{from: string, connection: string}
     */
    private static function sender(WebsocketMessageReceivedEvent $event): array
    {
        return ['from' => $event->userId, 'connection' => $event->connectionId];
    }

    /**
     * Takes the named fields and no other; null if one is not a text of a decent length.
     *
     * @param array<string, mixed> $message
     * @param list<string>         $names
     *
     * @return array<string, string>|null
     */
    private function fields(array $message, array $names, WebsocketMessageReceivedEvent $event): ?array
    {
        $fields = [];
        foreach ($names as $name) {
            $value = $message[$name] ?? null;
            if (!\is_string($value) || '' === $value || \strlen($value) > self::MAX_BYTES) {
                // Trying again would not help, so this is no failure.
                $this->logger->notice('A chat message is skipped: "{field}" is missing or malformed.', [
                    'field' => $name,
                    'connection_id' => $event->connectionId,
                ]);

                return null;
            }
            $fields[$name] = $value;
        }

        return $fields;
    }
}
