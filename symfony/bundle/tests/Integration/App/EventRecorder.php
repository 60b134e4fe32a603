<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration\App;

use Snoke\WsBundle\Event\WebsocketConnectionClosedEvent;
use Snoke\WsBundle\Event\WebsocketConnectionEstablishedEvent;
use Snoke\WsBundle\Event\WebsocketEvent;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;
use Symfony\Component\EventDispatcher\EventSubscriberInterface;

/**
 * Appends the events it gets to a file, which other processes read, and fails as messages ask it to.
 */
final class EventRecorder implements EventSubscriberInterface
{
    /** @var list<WebsocketEvent> */
    public array $events = [];
    public ?\Throwable $failure = null;

    public function __construct(
        private readonly string $file,
        private readonly WebsocketPublisherInterface $publisher,
    ) {
    }

    public static function getSubscribedEvents(): array
    {
        return [
            WebsocketConnectionEstablishedEvent::class => 'record',
            WebsocketConnectionClosedEvent::class => 'record',
            WebsocketMessageReceivedEvent::class => 'record',
        ];
    }

    public function record(WebsocketEvent $event): void
    {
        if (null !== $this->failure) {
            throw $this->failure;
        }
        $this->events[] = $event;
        $type = $event instanceof WebsocketMessageReceivedEvent ? $event->messageType() : null;
        $number = $event instanceof WebsocketMessageReceivedEvent ? $event->message['n'] ?? '' : '';
        @mkdir(\dirname($this->file), 0o777, true);
        file_put_contents($this->file, sprintf("%s %s %s%s\n", $event->type(), $type ?? "-", $number, $event->replayed ? " replayed" : ""), \FILE_APPEND);
        match ($type) {
            'fail' => throw new \RuntimeException('as the message asks'),
            'die' => posix_kill(getmypid(), \SIGKILL),
            'push' => $this->publisher->toUser($event->userId, ['text' => 'hello']),
            'long' => $this->work(5.0),
            'slow' => usleep(300_000),
            default => null,
        };
    }

    private function work(float $seconds): void
    {
        $until = microtime(true) + $seconds;
        while (microtime(true) < $until) {
            // Signals cut it short.
            usleep(50_000);
        }
    }
}
