<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer\Amqp;

use Psr\Cache\CacheItemPoolInterface;
use Snoke\WsBundle\Consumer\Entry;
use Snoke\WsBundle\Consumer\EventSourceInterface;
use Snoke\WsBundle\Consumer\SourceUnavailableException;
use Snoke\WsBundle\Exception\AmqpException;

/**
 * Reads queues of RabbitMQ.
 *
 * A message stays where it is in its queue until it is handled: one that failed is held here until it is due again, and
 * those behind it wait. RabbitMQ itself counts deliveries in quorum queues only (`x-delivery-count`), and there those of
 * messages that a worker only held. So a message whose worker died is counted in a cache, if there is one.
 */
final class AmqpSource implements EventSourceInterface
{
    private const COUNT_SECONDS = 86400;

    /** @var array<string, list<Delivery>> by queue, in their order */
    private array $waiting = [];

    /** @var array<string, int> tries within this process, by queue, of the first message */
    private array $tries = [];

    /** @var array<string, float> until when a failed message holds its queue back */
    private array $pausedUntil = [];

    /**
     * @var array<string, true> the last messages that are handled. RabbitMQ does not confirm that it knows of it, so if
     *                          the connection breaks it may deliver them again.
     */
    private array $handled = [];
    private bool $isConnected = false;

    /** @var array<string, string> by queue, what spans call it */
    private array $destinations = [];

    public function __construct(
        private readonly AmqpConsumerInterface $amqp,
        private readonly AmqpSettings $settings,
        private readonly ?CacheItemPoolInterface $counts = null,
    ) {
        foreach ($settings->bindings as $binding) {
            $this->destinations[$binding->queue] = $binding->destination();
        }
    }

    public function type(): string
    {
        return 'rabbitmq';
    }

    public function describe(): string
    {
        return sprintf(
            'the RabbitMQ queues %s',
            implode(', ', array_map(static fn (AmqpBinding $binding): string => $binding->queue, $this->settings->bindings)),
        );
    }

    public function next(float $seconds): ?Entry
    {
        $deadline = microtime(true) + $seconds;

        return $this->guarded(function () use ($deadline): ?Entry {
            $this->connect();
            do {
                while (null !== $delivery = $this->first()) {
                    if (!$delivery->redelivered || !isset($this->handled[self::key($delivery)])) {
                        return $this->entry($delivery);
                    }
                    $this->acknowledge($delivery);
                }
                $until = $deadline;
                foreach ($this->waiting as $queue => $deliveries) {
                    $until = [] === $deliveries ? $until : min($until, $this->pausedUntil[$queue] ?? 0.0);
                }
                $delivery = $this->amqp->next(max(0.001, $until - microtime(true)));
                if (null !== $delivery) {
                    $this->waiting[$delivery->queue][] = $delivery;
                }
            } while (null !== $delivery || microtime(true) < $deadline);

            return null;
        });
    }

    public function done(Entry $entry): void
    {
        $delivery = $this->waiting[$entry->from][0];
        // First, so that it is not handled again should RabbitMQ be away just now.
        $this->handled[self::key($delivery)] = true;
        $this->guarded(fn () => $this->acknowledge($delivery));
    }

    public function retry(Entry $entry, float $seconds): void
    {
        $this->tries[$entry->from] = $entry->deliveries;
        $this->pausedUntil[$entry->from] = microtime(true) + $seconds;
    }

    public function deadLetter(Entry $entry, string $reason, ?string $eventId = null): void
    {
        $delivery = $this->waiting[$entry->from][0];
        $this->guarded(function () use ($delivery, $entry, $reason, $eventId): void {
            $this->amqp->publish(
                $this->settings->deadLetterExchange,
                $this->settings->deadLetterQueue,
                $entry->raw,
                $delivery->messageId,
                ['reason' => $reason, 'sink' => 'rabbitmq', 'failed_at' => time(), 'queue' => $entry->from]
                    + (null === $eventId ? [] : ['event_id' => $eventId]),
            );
            $this->acknowledge($delivery);
        });
    }

    public function keepAlive(): void
    {
        $this->guarded(fn () => $this->amqp->heartbeat());
    }

    public function close(): void
    {
        // RabbitMQ puts what is not acknowledged back to where it was.
        $this->amqp->close();
        $this->isConnected = false;
        $this->waiting = $this->tries = $this->pausedUntil = [];
    }

    private function connect(): void
    {
        if ($this->isConnected) {
            return;
        }
        $this->amqp->connect();
        if ($this->settings->declare) {
            $this->declare();
        }
        foreach ($this->settings->bindings as $binding) {
            $this->amqp->consume($binding->queue, $this->settings->prefetch);
        }
        $this->isConnected = true;
    }

    /**
     * Declares what is missing, as the gateway would; what is there is left as it is.
     */
    private function declare(): void
    {
        $letters = $this->settings->deadLetterQueue;
        $this->amqp->declareExchange($this->settings->deadLetterExchange, 'direct');
        if (!$this->amqp->hasQueue($letters)) {
            $this->amqp->declareQueue($letters, []);
        }
        $this->amqp->bind($letters, $this->settings->deadLetterExchange, $letters);
        foreach ($this->settings->bindings as $binding) {
            if (!$this->amqp->hasQueue($binding->queue)) {
                $this->amqp->declareQueue($binding->queue, [
                    'x-dead-letter-exchange' => $this->settings->deadLetterExchange,
                    'x-dead-letter-routing-key' => $letters,
                ] + ($binding->singleActiveConsumer ? ['x-single-active-consumer' => true] : []));
            }
            if ('' !== $binding->exchange) {
                $this->amqp->declareExchange($binding->exchange, $binding->exchangeType);
                $this->amqp->bind($binding->queue, $binding->exchange, $binding->routingKey);
            }
        }
    }

    private function first(): ?Delivery
    {
        $now = microtime(true);
        $first = null;
        foreach ($this->waiting as $queue => $deliveries) {
            if ([] === $deliveries || ($this->pausedUntil[$queue] ?? 0.0) > $now) {
                continue;
            }
            // Tags grow in the order of delivery, across queues.
            if (null === $first || $deliveries[0]->tag < $first->tag) {
                $first = $deliveries[0];
            }
        }

        return $first;
    }

    private function entry(Delivery $delivery): Entry
    {
        $traceparent = $delivery->headers['traceparent'] ?? null;
        $tries = $this->tries[$delivery->queue] ?? $this->triesOfOthers($delivery);

        return new Entry(
            $delivery->queue,
            $delivery->messageId ?? (string) $delivery->tag,
            $delivery->body,
            $delivery->body,
            $tries + 1,
            \in_array($delivery->headers['replayed'] ?? null, [true, 1, '1', 'true'], true),
            traceparent: \is_string($traceparent) ? $traceparent : null,
            destination: $this->destinations[$delivery->queue] ?? null,
        );
    }

    /**
     * How often other workers, or this one before it connected again, took the message and did not finish it.
     */
    private function triesOfOthers(Delivery $delivery): int
    {
        if (!$delivery->redelivered) {
            return 0;
        }
        if (null === $delivery->messageId || null === $this->counts) {
            // Counts those too that a worker took and did not begin with.
            return (int) ($delivery->headers['x-delivery-count'] ?? 1);
        }
        $item = $this->counts->getItem('snoke_ws.tries.' . substr(hash('sha256', $delivery->messageId), 0, 40));
        $tries = 1 + (int) $item->get();
        $this->counts->save($item->set($tries)->expiresAfter(self::COUNT_SECONDS));

        return $tries;
    }

    private function acknowledge(Delivery $delivery): void
    {
        $this->amqp->ack($delivery);
        array_shift($this->waiting[$delivery->queue]);
        unset($this->tries[$delivery->queue], $this->pausedUntil[$delivery->queue]);
        while (\count($this->handled) > 2 * $this->settings->prefetch) {
            unset($this->handled[(string) array_key_first($this->handled)]);
        }
    }

    private static function key(Delivery $delivery): string
    {
        return $delivery->queue . ' ' . ($delivery->messageId ?? hash('sha256', $delivery->body));
    }

    /**
     * @template T
     *
     * @param \Closure(): T $operation
     *
     * @return T
     */
    private function guarded(\Closure $operation): mixed
    {
        try {
            return $operation();
        } catch (AmqpException $exception) {
            throw new SourceUnavailableException(rtrim($exception->getMessage(), '.') . '.', 0, $exception);
        }
    }
}
