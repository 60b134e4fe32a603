<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Test;

use Snoke\WsBundle\Publisher\PublishResult;
use Snoke\WsBundle\Publisher\Push;
use Snoke\WsBundle\Publisher\Transport\TransportInterface;
use Symfony\Contracts\Service\ResetInterface;

/**
 * Keeps pushes instead of sending them: `transport.type: in_memory`.
 */
final class InMemoryTransport implements TransportInterface, ResetInterface
{
    /** @var list<RecordedPush> */
    private array $pushes = [];

    public function publish(Push $push): PublishResult
    {
        $sent = json_decode($push->json, true, 512, \JSON_THROW_ON_ERROR);
        \assert(\is_array($sent), 'a push is an object');
        $this->pushes[] = new RecordedPush($push->subjects, $sent['payload'], $push->traceparent);

        return new PublishResult('in_memory', 0, (string) \count($this->pushes));
    }

    /**
     * @return list<RecordedPush> in the order they were made
     */
    public function pushes(): array
    {
        return $this->pushes;
    }

    public function reset(): void
    {
        $this->pushes = [];
    }
}
