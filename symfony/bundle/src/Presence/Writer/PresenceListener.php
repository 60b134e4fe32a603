<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence\Writer;

use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;
use Snoke\WsBundle\Event\WebsocketConnectionClosedEvent;
use Snoke\WsBundle\Event\WebsocketConnectionEstablishedEvent;
use Snoke\WsBundle\Event\WebsocketEvent;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Snoke\WsBundle\Exception\RedisException;
use Snoke\WsBundle\Presence\Connection;
use Symfony\Component\EventDispatcher\EventSubscriberInterface;

/**
 * Writes presence down from events.
 *
 * A failure is logged and passes: presence heals with the next event or expires, while an event that failed would be
 * delivered again to everybody.
 */
final class PresenceListener implements EventSubscriberInterface
{
    /** @var \Closure(): int */
    private readonly \Closure $now;

    /**
     * @param \Closure(): int|null $now Unix seconds
     */
    public function __construct(
        private readonly PresenceWriterInterface $writer,
        private readonly bool $refreshOnMessage = true,
        private readonly LoggerInterface $logger = new NullLogger(),
        ?\Closure $now = null,
    ) {
        $this->now = $now ?? time(...);
    }

    /**
     * Before the application's own listeners, which may ask who is online.
     *
     * @return array<class-string, array{string, int}>
     */
    public static function getSubscribedEvents(): array
    {
        return [
            WebsocketConnectionEstablishedEvent::class => ['onConnected', 1024],
            WebsocketMessageReceivedEvent::class => ['onMessage', 1024],
            WebsocketConnectionClosedEvent::class => ['onDisconnected', 1024],
        ];
    }

    public function onConnected(WebsocketConnectionEstablishedEvent $event): void
    {
        // A replay tells of what was, perhaps long ago.
        if (!$event->replayed) {
            $this->guarded(fn () => $this->writer->write($this->connection($event)));
        }
    }

    public function onMessage(WebsocketMessageReceivedEvent $event): void
    {
        if ($this->refreshOnMessage && !$event->replayed) {
            $this->guarded(fn () => $this->writer->write($this->connection($event)));
        }
    }

    public function onDisconnected(WebsocketConnectionClosedEvent $event): void
    {
        $this->guarded(fn () => $this->writer->remove($this->connection($event)));
    }

    private function connection(WebsocketEvent $event): Connection
    {
        return new Connection($event->connectionId, $event->userId, $event->subjects, $event->connectedAt, ($this->now)());
    }

    /**
     * @param \Closure(): void $write
     */
    private function guarded(\Closure $write): void
    {
        try {
            $write();
        } catch (RedisException $exception) {
            $this->logger->error('Presence was not written: {error}', ['error' => $exception->getMessage()]);
        }
    }
}
