<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Messenger;

use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;
use Snoke\WsBundle\Event\EventFactoryInterface;
use Snoke\WsBundle\Event\WebsocketEvent;
use Snoke\WsBundle\Exception\MalformedEventException;
use Snoke\WsBundle\Exception\UnknownEventTypeException;
use Symfony\Component\Messenger\Envelope;
use Symfony\Component\Messenger\Exception\MessageDecodingFailedException;
use Symfony\Component\Messenger\Stamp\BusNameStamp;
use Symfony\Component\Messenger\Stamp\RedeliveryStamp;
use Symfony\Component\Messenger\Transport\Serialization\SerializerInterface;

/**
 * Reads the gateway's events for Messenger's own transports, Redis and AMQP.
 *
 * The gateway has to write them so: `events.redis_stream.format: messenger`, or `events.rabbitmq.format` of any value.
 */
final class EventSerializer implements SerializerInterface
{
    private const RETRIES = 'X-Ws-Retries';
    private const BUS = 'X-Ws-Bus';

    public function __construct(
        private readonly EventFactoryInterface $events,
        private readonly LoggerInterface $logger = new NullLogger(),
    ) {
    }

    /**
     * @param array<array-key, mixed> $encodedEnvelope
     */
    public function decode(array $encodedEnvelope): Envelope
    {
        $body = $encodedEnvelope['body'] ?? '';
        $headers = $encodedEnvelope['headers'] ?? [];
        $headers = \is_array($headers) ? $headers : [];
        try {
            $message = $this->events->fromJson(
                \is_string($body) ? $body : '',
                \in_array($headers['replayed'] ?? null, [true, 1, '1', 'true'], true),
                \is_string($headers['traceparent'] ?? null) ? $headers['traceparent'] : null,
            );
        } catch (MalformedEventException | UnknownEventTypeException $exception) {
            $this->logger->error('A message of Messenger is no event: {reason}.', ['reason' => $exception->getMessage()]);
            $raw = \is_string($body) ? $body : (string) json_encode($body, \JSON_INVALID_UTF8_SUBSTITUTE);
            $message = new UnreadableEvent($raw, $exception->getMessage());
        }
        $stamps = [];
        if (isset($headers[self::RETRIES])) {
            $stamps[] = new RedeliveryStamp((int) $headers[self::RETRIES]);
        }
        if (\is_string($headers[self::BUS] ?? null)) {
            $stamps[] = new BusNameStamp($headers[self::BUS]);
        }

        return new Envelope($message, $stamps);
    }

    /**
     * Writes an event that failed, for Messenger to try again.
     *
     * @return array{body: string, headers: array<string, string>}
     */
    public function encode(Envelope $envelope): array
    {
        $message = $envelope->getMessage();
        $headers = ['Content-Type' => 'application/json'];
        if ($message instanceof UnreadableEvent) {
            return ['body' => $message->raw, 'headers' => $headers];
        }
        if (!$message instanceof WebsocketEvent) {
            throw new MessageDecodingFailedException(sprintf(
                '%s is no event of the gateway: this serializer is for transports that only it writes to.',
                $message::class,
            ));
        }
        $headers['type'] = $message->type();
        $headers['event_id'] = $message->eventId;
        if (null !== $message->traceparent) {
            $headers['traceparent'] = $message->traceparent;
        }
        if ($message->replayed) {
            $headers['replayed'] = '1';
        }
        $redelivery = $envelope->last(RedeliveryStamp::class);
        if ($redelivery instanceof RedeliveryStamp) {
            $headers[self::RETRIES] = (string) $redelivery->getRetryCount();
        }
        $bus = $envelope->last(BusNameStamp::class);
        if ($bus instanceof BusNameStamp) {
            $headers[self::BUS] = $bus->getBusName();
        }

        return ['body' => $message->json(), 'headers' => $headers];
    }
}
