<?php

declare(strict_types=1);

namespace Snoke\WsBundle\RemoteEvent;

use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;
use Snoke\WsBundle\Event\EventFactoryInterface;
use Snoke\WsBundle\Exception\UnknownEventTypeException;
use Snoke\WsBundle\Handler\EventReceiverInterface;
use Symfony\Component\RemoteEvent\Consumer\ConsumerInterface;
use Symfony\Component\RemoteEvent\RemoteEvent;

/**
 * Dispatches remote events named `wsgw`, whether this bundle's parser made them or Symfony's own
 * `webhook.request_parser`.
 */
final class WsRemoteEventConsumer implements ConsumerInterface
{
    public function __construct(
        private readonly EventFactoryInterface $events,
        private readonly EventReceiverInterface $receiver,
        private readonly LoggerInterface $logger = new NullLogger(),
    ) {
    }

    public function consume(RemoteEvent $event): void
    {
        try {
            $this->receiver->receive($this->events->fromArray($event->getPayload()), 'webhook');
        } catch (UnknownEventTypeException $exception) {
            $this->logger->notice('A remote event is skipped: {reason}.', ['reason' => $exception->getMessage()]);
        }
    }
}
