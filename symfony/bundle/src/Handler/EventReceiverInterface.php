<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Handler;

use Snoke\WsBundle\Event\WebsocketEvent;

/**
 * Takes an event from wherever it came, and has it handled once.
 */
interface EventReceiverInterface
{
    /**
     * @param string      $via         where it came from, for traces: `webhook`, `redis_stream`, `rabbitmq`, …
     * @param string|null $traceparent trace context that came beside the event, where there is one
     *
     * @return bool whether it was handled now; false: it was before
     *
     * @throws \Throwable what a listener or handler threw; the event then counts as not handled
     */
    public function receive(WebsocketEvent $event, string $via, ?string $traceparent = null): bool;
}
