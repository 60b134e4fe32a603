<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer\Amqp;

use Snoke\WsBundle\Amqp\AmqpDsn;
use Snoke\WsBundle\Exception\AmqpException;

/**
 * Consumes by ext-amqp.
 *
 * @internal
 */
final class ExtAmqpConsumer implements AmqpConsumerInterface
{
    private const TIMEOUT_SECONDS = 5.0;

    private ?\AMQPConnection $connection = null;
    private ?\AMQPChannel $consuming = null;
    private ?\AMQPExchange $publishing = null;

    /** @var array<string, \AMQPQueue> by consumer tag */
    private array $queues = [];

    /** @var list<Delivery> */
    private array $arrived = [];
    private bool $isRouted = true;
    private bool $isConfirmed = false;

    public function __construct(private readonly AmqpDsn $dsn)
    {
    }

    public function connect(): void
    {
        $this->close();
        $this->guarded(fn () => $this->connection = $this->newConnection());
    }

    public function hasQueue(string $name): bool
    {
        return $this->exists(static function (\AMQPChannel $channel) use ($name): void {
            $queue = new \AMQPQueue($channel);
            $queue->setName($name);
            $queue->setFlags(\AMQP_PASSIVE);
            $queue->declareQueue();
        });
    }

    public function declareExchange(string $name, string $type): void
    {
        $declare = static function (\AMQPChannel $channel, int $flags) use ($name, $type): void {
            $exchange = new \AMQPExchange($channel);
            $exchange->setName($name);
            $exchange->setType($type);
            $exchange->setFlags($flags);
            $exchange->declareExchange();
        };
        if (!$this->exists(static fn (\AMQPChannel $channel) => $declare($channel, \AMQP_PASSIVE))) {
            $this->guarded(fn () => $declare($this->channel(), \AMQP_DURABLE));
        }
    }

    public function declareQueue(string $name, array $arguments): void
    {
        $this->guarded(function () use ($name, $arguments): void {
            $queue = new \AMQPQueue($this->channel());
            $queue->setName($name);
            $queue->setFlags(\AMQP_DURABLE);
            $queue->setArguments($arguments);
            $queue->declareQueue();
        });
    }

    public function bind(string $queue, string $exchange, string $routingKey): void
    {
        $this->guarded(function () use ($queue, $exchange, $routingKey): void {
            $bound = new \AMQPQueue($this->channel());
            $bound->setName($queue);
            $bound->bind($exchange, $routingKey);
        });
    }

    public function consume(string $queue, int $prefetch): void
    {
        $this->guarded(function () use ($queue, $prefetch): void {
            $channel = $this->channel();
            $channel->qos(0, $prefetch);
            $consumed = new \AMQPQueue($channel);
            $consumed->setName($queue);
            // Asks for messages, and does not wait for them.
            $consumed->consume(null, \AMQP_NOPARAM);
            $this->queues[(string) $consumed->getConsumerTag()] = $consumed;
        });
    }

    public function next(float $seconds): ?Delivery
    {
        if ([] === $this->arrived && [] !== $this->queues) {
            $this->guarded(function () use ($seconds): void {
                $this->connection?->setReadTimeout(max(0.001, $seconds));
                try {
                    // Gives messages of all queues of the channel.
                    reset($this->queues)->consume(function (\AMQPEnvelope $message): bool {
                        $this->arrived[] = $this->delivery($message);

                        return false;
                    }, \AMQP_JUST_CONSUME);
                } catch (\AMQPQueueException $exception) {
                    if (!str_contains($exception->getMessage(), 'timeout exceed')) {
                        throw $exception;
                    }
                } finally {
                    if ($this->connection?->isConnected()) {
                        $this->connection->setReadTimeout(self::TIMEOUT_SECONDS);
                    }
                }
            });
        }

        return array_shift($this->arrived);
    }

    public function ack(Delivery $delivery): void
    {
        $this->guarded(fn () => $this->queues[array_key_first($this->queues)]->ack($delivery->tag));
    }

    public function publish(string $exchange, string $routingKey, string $body, ?string $messageId, array $headers): void
    {
        $this->guarded(function () use ($exchange, $routingKey, $body, $messageId, $headers): void {
            $publishing = $this->publishing ??= $this->publishing();
            $publishing->setName($exchange);
            $this->isRouted = true;
            $this->isConfirmed = false;
            $publishing->publish($body, $routingKey, \AMQP_MANDATORY, array_filter([
                'content_type' => 'application/json',
                'delivery_mode' => 2,
                'message_id' => $messageId,
                'headers' => $headers,
            ], static fn (mixed $value): bool => null !== $value));
            $publishing->getChannel()->waitForConfirm(2 * self::TIMEOUT_SECONDS);
        });
        if (!$this->isConfirmed || !$this->isRouted) {
            throw new AmqpException(sprintf(
                'RabbitMQ at %s %s.',
                $this->dsn->address(),
                $this->isRouted ? 'refused a dead letter' : sprintf('has no queue bound to "%s" for dead letters', $exchange),
            ));
        }
    }

    public function heartbeat(): void
    {
        // There are none, see connect().
    }

    public function close(): void
    {
        try {
            $this->publishing?->getConnection()->disconnect();
            $this->connection?->disconnect();
        } catch (\Throwable) {
            // It was lost already.
        }
        $this->connection = $this->consuming = $this->publishing = null;
        $this->queues = $this->arrived = [];
    }

    private function delivery(\AMQPEnvelope $message): Delivery
    {
        $tag = (string) $message->getConsumerTag();
        $id = (string) $message->getMessageId();

        return new Delivery(
            isset($this->queues[$tag]) ? (string) $this->queues[$tag]->getName() : '',
            (int) $message->getDeliveryTag(),
            (string) $message->getBody(),
            $message->getHeaders(),
            '' === $id ? null : $id,
            $message->isRedelivery(),
        );
    }

    private function newConnection(): \AMQPConnection
    {
        $connection = new \AMQPConnection(array_filter([
            'host' => $this->dsn->host,
            'port' => $this->dsn->port,
            'vhost' => $this->dsn->vhost,
            'login' => $this->dsn->user,
            'password' => $this->dsn->password,
            'connect_timeout' => self::TIMEOUT_SECONDS,
            'rpc_timeout' => 2 * self::TIMEOUT_SECONDS,
            'read_timeout' => self::TIMEOUT_SECONDS,
            'write_timeout' => self::TIMEOUT_SECONDS,
            // Sent only within its own calls, so that a long handler would cost the connection.
            'heartbeat' => 0,
            'connection_name' => 'snoke/ws-bundle ws:consume',
            // Without a file of authorities ext-amqp does not speak TLS at all.
            'cacert' => $this->dsn->tls ? $this->dsn->caFile ?? '/etc/ssl/certs/ca-certificates.crt' : null,
            'cert' => $this->dsn->certFile,
            'key' => $this->dsn->keyFile,
            'verify' => $this->dsn->tls ? $this->dsn->verify : null,
        ], static fn (mixed $value): bool => null !== $value));
        $connection->connect();

        return $connection;
    }

    private function channel(): \AMQPChannel
    {
        return $this->consuming ??= $this->open();
    }

    private function open(): \AMQPChannel
    {
        return new \AMQPChannel($this->connection ?? throw new AmqpException('RabbitMQ is not connected.'));
    }

    private function publishing(): \AMQPExchange
    {
        // A connection of its own: while it waits for a confirm, ext-amqp takes a message that comes for a mistake.
        $channel = new \AMQPChannel($this->newConnection());
        $channel->setReturnCallback(function (): bool {
            $this->isRouted = false;

            return true;
        });
        $channel->setConfirmCallback(
            function (): bool {
                $this->isConfirmed = true;

                return false;
            },
            static fn (): bool => false,
        );
        $channel->confirmSelect();

        return new \AMQPExchange($channel);
    }

    /**
     * Asks for something by a channel of its own, which RabbitMQ closes if there is no such thing.
     *
     * @param \Closure(\AMQPChannel): mixed $ask
     */
    private function exists(\Closure $ask): bool
    {
        return $this->guarded(function () use ($ask): bool {
            $channel = $this->open();
            try {
                $ask($channel);
                $channel->close();

                return true;
            } catch (\AMQPException $exception) {
                if (404 === $exception->getCode()) {
                    return false;
                }
                if (\in_array($exception->getCode(), [405, 406], true)) {
                    return true;
                }
                throw $exception;
            }
        });
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
        } catch (\AMQPException $exception) {
            throw new AmqpException(sprintf('RabbitMQ at %s: %s', $this->dsn->address(), $exception->getMessage()), 0, $exception);
        }
    }
}
