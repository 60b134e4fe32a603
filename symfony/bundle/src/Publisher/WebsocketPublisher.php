<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Publisher;

use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;
use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Publisher\Transport\TransportInterface;
use Snoke\WsBundle\Tracing\NullTraceContext;
use Snoke\WsBundle\Tracing\TraceContextInterface;
use Snoke\WsBundle\User\UserIdResolver;
use Snoke\WsBundle\User\UserIdResolverInterface;
use Symfony\Component\Security\Core\User\UserInterface;

/**
 * Pushes to clients by the configured transport, in a span of its own.
 */
final class WebsocketPublisher implements WebsocketPublisherInterface
{
    public function __construct(
        private readonly TransportInterface $transport,
        private readonly string $userPrefix = 'user:',
        private readonly UserIdResolverInterface $users = new UserIdResolver(),
        private readonly TraceContextInterface $trace = new NullTraceContext(),
        private readonly LoggerInterface $logger = new NullLogger(),
    ) {
    }

    public function send(array $subjects, mixed $payload): PublishResult
    {
        $attributes = ['messaging.operation.type' => 'send', 'ws.subjects.count' => \count($subjects)];

        return $this->trace->produce('ws.publish', $attributes, function (?string $traceparent) use ($subjects, $payload): PublishResult {
            $push = Push::create($subjects, $payload, $traceparent);
            try {
                $result = $this->transport->publish($push);
            } catch (PublishException $exception) {
                $this->logger->error('A push was not sent: {error}', [
                    'error' => $exception->getMessage(),
                    'transport' => $exception->transport,
                    'subjects' => $push->summary(),
                ]);
                throw $exception;
            }
            $this->logger->debug('A push was sent.', [
                'transport' => $result->transport,
                'subjects' => $push->summary(),
                'bytes' => \strlen($push->json),
                'sent' => $result->sent,
            ]);

            return $result;
        });
    }

    public function toUser(UserInterface|string|int $user, mixed $payload): PublishResult
    {
        return $this->send([$this->userPrefix . $this->users->resolve($user)], $payload);
    }
}
