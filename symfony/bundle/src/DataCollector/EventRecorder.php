<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DataCollector;

use Snoke\WsBundle\Event\WebsocketConnectionClosedEvent;
use Snoke\WsBundle\Event\WebsocketConnectionEstablishedEvent;
use Snoke\WsBundle\Event\WebsocketEvent;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Symfony\Component\EventDispatcher\EventSubscriberInterface;
use Symfony\Contracts\Service\ResetInterface;

/**
 * Notes which events come in, for the profiler.
 *
 * @internal
 */
final class EventRecorder implements EventSubscriberInterface, ResetInterface
{
    /** As for pushes: an import is not to run out of memory for it. */
    private const KEPT = 200;

    /** @var list<WebsocketEvent> */
    private array $events = [];
    private int $count = 0;

    /**
     * @return array<class-string, array{string, int}>
     */
    public static function getSubscribedEvents(): array
    {
        return [
            WebsocketConnectionEstablishedEvent::class => ['note', 2048],
            WebsocketMessageReceivedEvent::class => ['note', 2048],
            WebsocketConnectionClosedEvent::class => ['note', 2048],
        ];
    }

    public function note(WebsocketEvent $event): void
    {
        ++$this->count;
        if (\count($this->events) < self::KEPT) {
            $this->events[] = $event;
        }
    }

    /**
     * @return list<WebsocketEvent>
     */
    public function events(): array
    {
        return $this->events;
    }

    public function count(): int
    {
        return $this->count;
    }

    public function reset(): void
    {
        $this->events = [];
        $this->count = 0;
    }
}
