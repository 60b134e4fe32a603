<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Event;

/**
 * A client connected (`connected`).
 */
final class WebsocketConnectionEstablishedEvent extends WebsocketEvent
{
    public const TYPE = 'connected';

    public function type(): string
    {
        return self::TYPE;
    }
}
