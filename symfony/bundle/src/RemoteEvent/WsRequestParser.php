<?php

declare(strict_types=1);

namespace Snoke\WsBundle\RemoteEvent;

use Snoke\WsBundle\Event\EventFactoryInterface;
use Snoke\WsBundle\Exception\MalformedEventException;
use Snoke\WsBundle\Exception\UnknownEventTypeException;
use Snoke\WsBundle\Webhook\RefusedWebhookException;
use Snoke\WsBundle\Webhook\SignatureVerifierInterface;
use Symfony\Component\HttpFoundation\ChainRequestMatcher;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\RequestMatcher\MethodRequestMatcher;
use Symfony\Component\HttpFoundation\RequestMatcherInterface;
use Symfony\Component\RemoteEvent\RemoteEvent;
use Symfony\Component\Webhook\Client\AbstractRequestParser;
use Symfony\Component\Webhook\Exception\RejectWebhookException;

/**
 * Takes the gateway's events by symfony/webhook, which hands them to Messenger: answered at once, handled by workers.
 *
 *     framework:
 *         webhook:
 *             routing:
 *                 wsgw: { service: snoke_ws.webhook.request_parser, secret: '%env(SYMFONY_WEBHOOK_SECRET)%' }
 *
 * {@see WsRemoteEventConsumer} is then called without any code of the application.
 */
final class WsRequestParser extends AbstractRequestParser
{
    public function __construct(
        private readonly SignatureVerifierInterface $verifier,
        private readonly EventFactoryInterface $events,
        private readonly int $maxBodyBytes = 1048576,
    ) {
    }

    protected function getRequestMatcher(): RequestMatcherInterface
    {
        return new ChainRequestMatcher([new MethodRequestMatcher('POST')]);
    }

    protected function doParse(Request $request, #[\SensitiveParameter] string $secret): ?RemoteEvent
    {
        $body = (string) $request->getContent();
        if (\strlen($body) > $this->maxBodyBytes) {
            throw new RejectWebhookException(413, 'The body is too large.');
        }
        try {
            $this->verifier->verify($request->headers, $body, '' === $secret ? null : $secret);
            $event = $this->events->fromJson($body);
        } catch (RefusedWebhookException $exception) {
            throw new RejectWebhookException(401, 'The request is not signed as it must be.', $exception);
        } catch (MalformedEventException $exception) {
            throw new RejectWebhookException(400, $exception->getMessage(), $exception);
        } catch (UnknownEventTypeException) {
            return null;
        }

        return new RemoteEvent($event->type(), $event->eventId, $event->fields);
    }
}
