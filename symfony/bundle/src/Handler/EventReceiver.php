<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Handler;

use Psr\EventDispatcher\EventDispatcherInterface;
use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;
use Snoke\WsBundle\Dedupe\EventDeduplicatorInterface;
use Snoke\WsBundle\Dedupe\NullEventDeduplicator;
use Snoke\WsBundle\Event\WebsocketEvent;
use Snoke\WsBundle\Tracing\ActiveSpan;
use Snoke\WsBundle\Tracing\NullTracer;
use Snoke\WsBundle\Tracing\TracerInterface;
use Snoke\WsBundle\Tracing\UserNames;
use Symfony\Component\Lock\LockFactory;

/**
 * Dispatches events to listeners and message handlers; every way in ends here.
 */
final class EventReceiver implements EventReceiverInterface
{
    /** Seconds after which the lock of a process that died is free again. */
    private const LOCK_TTL = 300.0;
    private const LOCKS = 1024;

    public function __construct(
        private readonly EventDispatcherInterface $dispatcher,
        private readonly EventDeduplicatorInterface $deduplicator = new NullEventDeduplicator(),
        private readonly TracerInterface $tracer = new NullTracer(),
        private readonly LoggerInterface $logger = new NullLogger(),
        private readonly ?LockFactory $locks = null,
        private readonly UserNames $users = new UserNames(true),
    ) {
    }

    public function receive(WebsocketEvent $event, string $via, array $attributes = []): bool
    {
        return $this->tracer->receive(
            'ws.' . $event->type(),
            $event->traceparent,
            $attributes + $this->attributes($event, $via),
            function (ActiveSpan $span) use ($event, $via): bool {
                $isNew = $this->handleOnce($event, $via);
                if (!$isNew) {
                    $span->set('wsgw.duplicate', true);
                }

                return $isNew;
            },
        );
    }

    private function handleOnce(WebsocketEvent $event, string $via): bool
    {
        // A retry of a request that timed out may come while the first one is still worked on: it has to wait for that.
        // Its name is one of few, since some stores keep a file for each name for ever.
        $lock = $this->locks?->createLock('snoke_ws.event.' . crc32($event->eventId) % self::LOCKS, self::LOCK_TTL);
        $lock?->acquire(true);
        try {
            if ($this->deduplicator->isHandled($event->eventId)) {
                $this->logger->info('An event that was handled before is skipped.', self::context($event, $via));

                return false;
            }
            $this->dispatcher->dispatch($event);
            $this->deduplicator->markHandled($event->eventId);

            return true;
        } finally {
            $lock?->release();
        }
    }

    /**
     * What a log may say of an event: no message, no subject.
     *
     * @return array<string, string>
     */
    public static function context(WebsocketEvent $event, string $via): array
    {
        return [
            'type' => $event->type(),
            'event_id' => $event->eventId,
            'connection_id' => $event->connectionId,
            'via' => $via,
        ];
    }

    /**
     * @return array<string, string|int|float|bool|null>
     */
    private function attributes(WebsocketEvent $event, string $via): array
    {
        return [
            'messaging.system' => ['webhook' => 'wsgw', 'redis_stream' => 'redis'][$via] ?? $via,
            'messaging.operation.name' => 'process',
            'messaging.operation.type' => 'process',
            'messaging.message.id' => $event->eventId,
            'wsgw.event.type' => $event->type(),
            'wsgw.event.seq' => $event->seq,
            'wsgw.connection.id' => $event->connectionId,
            'messaging.message.body.size' => \strlen($event->json()) ?: null,
            'wsgw.replayed' => $event->replayed ?: null,
        ] + $this->users->attributes($event->userId);
    }
}
