<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Messenger;

use Snoke\WsBundle\Exception\InvalidPushException;
use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Publisher\PublishResult;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;

/**
 * Sends a {@see WsPush}.
 */
final class WsPushHandler
{
    public function __construct(private readonly WebsocketPublisherInterface $publisher)
    {
    }

    public function __invoke(WsPush $push): PublishResult
    {
        try {
            return $this->publisher->send($push->subjects, $push->payload);
        } catch (InvalidPushException $exception) {
            throw new UnrecoverablePushException($exception->getMessage(), 0, $exception);
        } catch (PublishException $exception) {
            throw $exception->isRefusal() ? new UnrecoverablePushException($exception->getMessage(), 0, $exception) : $exception;
        }
    }
}
