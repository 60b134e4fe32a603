<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Publisher;

use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;
use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Publisher\Transport\TracedTransportInterface;
use Snoke\WsBundle\Publisher\Transport\TransportInterface;
use Snoke\WsBundle\Tracing\ActiveSpan;
use Snoke\WsBundle\Tracing\NullTraceContext;
use Snoke\WsBundle\Tracing\SpanKind;
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
        $kind = SpanKind::Producer;
        $attributes = ['wsgw.push.subjects' => \count($subjects)];
        if ($this->transport instanceof TracedTransportInterface) {
            $kind = $this->transport->spanKind();
            $attributes += $this->transport->spanAttributes();
        }

        return $this->trace->produce('ws.publish', $attributes, function (ActiveSpan $span) use ($subjects, $payload, $kind): PublishResult {
            $push = Push::create($subjects, $payload, $span->traceparent);
            try {
                $result = $this->transport->publish($push);
            } catch (PublishException $exception) {
                if (null !== $exception->statusCode) {
                    $span->set('http.response.status_code', $exception->statusCode);
                    $span->fail((string) $exception->statusCode);
                }
                $this->logger->error('A push was not sent: {error}', [
                    'error' => $exception->getMessage(),
                    'transport' => $exception->transport,
                    'subjects' => $push->summary(),
                ]);
                throw $exception;
            }
            if (SpanKind::Client === $kind) {
                $span->set('http.response.status_code', 200);
            } else {
                $span->set('messaging.message.id', $result->messageId);
                $span->set('messaging.message.body.size', \strlen($push->json));
            }
            $span->set('wsgw.push.connections', $result->sent);
            $this->logger->debug('A push was sent.', [
                'transport' => $result->transport,
                'subjects' => $push->summary(),
                'bytes' => \strlen($push->json),
                'sent' => $result->sent,
            ]);

            return $result;
        }, $kind);
    }

    public function toUser(UserInterface|string|int $user, mixed $payload): PublishResult
    {
        return $this->send([$this->userPrefix . $this->users->resolve($user)], $payload);
    }
}
