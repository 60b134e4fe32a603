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
     * @param string                                    $via        where it came from: `webhook`, `redis_stream`, `rabbitmq`, …
     * @param array<string, string|int|float|bool|null> $attributes what its span says beside what the event does
     *
     * @return bool whether it was handled now; false: it was before
     *
     * @throws \Throwable what a listener or handler threw; the event then counts as not handled
     */
    public function receive(WebsocketEvent $event, string $via, array $attributes = []): bool;
}
