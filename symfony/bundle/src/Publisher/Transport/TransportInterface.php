<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Publisher\Transport;

use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Publisher\PublishResult;
use Snoke\WsBundle\Publisher\Push;

/**
 * Takes a push to the gateway.
 */
interface TransportInterface
{
    /**
     * @throws PublishException if it could not be handed over
     */
    public function publish(Push $push): PublishResult;
}
