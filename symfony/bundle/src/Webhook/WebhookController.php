<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Webhook;

use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;
use Snoke\WsBundle\Event\EventFactoryInterface;
use Snoke\WsBundle\Event\WebsocketEvent;
use Snoke\WsBundle\Exception\InvalidSettingException;
use Snoke\WsBundle\Exception\MalformedEventException;
use Snoke\WsBundle\Exception\UnknownEventTypeException;
use Snoke\WsBundle\Exception\UnprocessableEventException;
use Snoke\WsBundle\Handler\EventReceiver;
use Snoke\WsBundle\Handler\EventReceiverInterface;
use Snoke\WsBundle\Tracing\ActiveSpan;
use Snoke\WsBundle\Tracing\NullTracer;
use Snoke\WsBundle\Tracing\SpanKind;
use Snoke\WsBundle\Tracing\TracerInterface;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;

/**
 * Takes the gateway's events. What it answers decides what the gateway does next:
 *
 * | answer | when                                          | the gateway                     |
 * |--------|-----------------------------------------------|---------------------------------|
 * | 204    | handled, handled before, or of an unknown type | is done                         |
 * | 400    | no event                                      | keeps it as a dead letter       |
 * | 401    | not signed as it must be                      | keeps it as a dead letter       |
 * | 413    | larger than allowed                           | keeps it as a dead letter       |
 * | 422    | a handler says that it never can be handled   | keeps it as a dead letter       |
 * | 500    | a handler failed                              | tries again                     |
 * | 503    | the secret is not configured                  | tries again                     |
 */
final class WebhookController
{
    public function __construct(
        private readonly SignatureVerifierInterface $verifier,
        private readonly EventFactoryInterface $events,
        private readonly EventReceiverInterface $receiver,
        private readonly LoggerInterface $logger = new NullLogger(),
        private readonly int $maxBodyBytes = 1048576,
        private readonly bool $enabled = true,
        private readonly TracerInterface $tracer = new NullTracer(),
    ) {
    }

    public function __invoke(Request $request): Response
    {
        if (!$this->enabled) {
            return self::problem(404, 'events.webhook.enabled is off.');
        }
        if (!$request->isMethod('POST')) {
            return self::problem(405, 'Events are posted.', ['Allow' => 'POST']);
        }
        $body = $this->body($request);
        if (null === $body) {
            return self::problem(413, sprintf('The body is larger than %d bytes.', $this->maxBodyBytes));
        }
        try {
            $this->verifier->verify($request->headers, $body);
        } catch (RefusedWebhookException $exception) {
            $this->logger->warning('A webhook is refused: {reason}.', [
                'reason' => $exception->getMessage(),
                'address' => $request->getClientIp(),
            ]);

            return self::problem(401, 'The request is not signed as it must be.');
        } catch (InvalidSettingException $exception) {
            $this->logger->critical('No webhook can be taken: {reason}', ['reason' => $exception->getMessage()]);

            return self::problem(503, 'Webhooks are not configured.');
        }
        try {
            $event = $this->events->fromJson($body, false, $request->headers->get('traceparent'));
        } catch (MalformedEventException $exception) {
            $this->logger->error('A webhook has no event: {reason}.', ['reason' => $exception->getMessage()]);

            return self::problem(400, ucfirst($exception->getMessage()) . '.');
        } catch (UnknownEventTypeException $exception) {
            $this->logger->notice('A webhook is skipped: {reason}.', ['reason' => $exception->getMessage()]);

            return new Response('', 204);
        }

        return $this->tracer->receive(
            $request->getMethod() . ' ' . $request->getPathInfo(),
            $event->traceparent,
            self::attributes($request),
            function (ActiveSpan $span) use ($event): Response {
                $response = $this->handle($event);
                $status = $response->getStatusCode();
                $span->set('http.response.status_code', $status);
                if ($status >= 500) {
                    $span->fail((string) $status);
                }

                return $response;
            },
            SpanKind::Server,
        );
    }

    private function handle(WebsocketEvent $event): Response
    {
        try {
            $this->receiver->receive($event, 'webhook');
        } catch (UnprocessableEventException $exception) {
            $this->logger->error('An event cannot be handled: {reason}.', [
                'reason' => $exception->getMessage(),
                'exception' => $exception,
            ] + EventReceiver::context($event, 'webhook'));

            return self::problem(422, 'The event cannot be handled.');
        } catch (\Throwable $exception) {
            // Not thrown on: Symfony answers some exceptions by 4xx or a redirect, and the gateway would not try again.
            $this->logger->critical('A handler failed; the gateway will try the event again.', [
                'exception' => $exception,
            ] + EventReceiver::context($event, 'webhook'));

            return self::problem(500, 'A handler failed.');
        }

        return new Response('', 204);
    }

    /**
     * @return array<string, string|int|null>
     */
    private static function attributes(Request $request): array
    {
        return [
            'http.request.method' => $request->getMethod(),
            // The route has no placeholders.
            'http.route' => $request->getPathInfo(),
            'url.path' => $request->getBaseUrl() . $request->getPathInfo(),
            'url.scheme' => $request->getScheme(),
            'server.address' => $request->getHost(),
            'server.port' => (int) $request->getPort(),
            'user_agent.original' => $request->headers->get('user-agent'),
        ];
    }

    /**
     * Reads no more than is allowed, whatever the length that the request claims.
     */
    private function body(Request $request): ?string
    {
        if ((int) $request->headers->get('content-length', '0') > $this->maxBodyBytes) {
            return null;
        }
        $stream = $request->getContent(true);
        if (!\is_resource($stream)) {
            return null;
        }
        $body = stream_get_contents($stream, $this->maxBodyBytes + 1);
        fclose($stream);

        return false === $body || \strlen($body) > $this->maxBodyBytes ? null : $body;
    }

    /**
     * @param array<string, string> $headers
     */
    private static function problem(int $status, string $detail, array $headers = []): Response
    {
        return new Response(
            json_encode([
                'type' => 'about:blank',
                'title' => Response::$statusTexts[$status],
                'status' => $status,
                'detail' => $detail,
            ], \JSON_THROW_ON_ERROR | \JSON_UNESCAPED_SLASHES),
            $status,
            ['Content-Type' => 'application/problem+json', 'Cache-Control' => 'no-store'] + $headers,
        );
    }
}
