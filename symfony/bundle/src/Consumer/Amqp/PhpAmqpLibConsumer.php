<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer\Amqp;

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AbstractConnection;
use PhpAmqpLib\Connection\AMQPConnectionConfig;
use PhpAmqpLib\Connection\AMQPConnectionFactory;
use PhpAmqpLib\Exception\AMQPBasicCancelException;
use PhpAmqpLib\Exception\AMQPExceptionInterface;
use PhpAmqpLib\Exception\AMQPProtocolChannelException;
use PhpAmqpLib\Exception\AMQPTimeoutException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;
use Snoke\WsBundle\Amqp\AmqpDsn;
use Snoke\WsBundle\Exception\AmqpException;

/**
 * Consumes by php-amqplib.
 *
 * @internal
 */
final class PhpAmqpLibConsumer implements AmqpConsumerInterface
{
    private const TIMEOUT_SECONDS = 5.0;
    private const HEARTBEAT_SECONDS = 30;

    private ?AbstractConnection $connection = null;
    private ?AMQPChannel $consuming = null;
    private ?AMQPChannel $publishing = null;
    private bool $isRouted = true;
    private bool $isConfirmed = false;

    /** @var list<Delivery> */
    private array $arrived = [];

    public function __construct(private readonly AmqpDsn $dsn)
    {
    }

    public function connect(): void
    {
        $this->close();
        $config = new AMQPConnectionConfig();
        $config->setHost($this->dsn->host);
        $config->setPort($this->dsn->port);
        $config->setUser($this->dsn->user);
        $config->setPassword($this->dsn->password);
        $config->setVhost($this->dsn->vhost);
        $config->setConnectionTimeout(self::TIMEOUT_SECONDS);
        $config->setReadTimeout(2 * self::HEARTBEAT_SECONDS + 1);
        $config->setWriteTimeout(2 * self::HEARTBEAT_SECONDS + 1);
        $config->setChannelRPCTimeout(2 * self::TIMEOUT_SECONDS);
        // A worker that is gone without a word must not keep its messages.
        $config->setHeartbeat(self::HEARTBEAT_SECONDS);
        $config->setKeepalive(true);
        $config->setConnectionName('snoke/ws-bundle ws:consume');
        if ($this->dsn->tls) {
            $config->setIsSecure(true);
            $config->setSslVerify($this->dsn->verify);
            $config->setSslVerifyName($this->dsn->verify);
            $config->setSslCaCert($this->dsn->caFile);
            $config->setSslCert($this->dsn->certFile);
            $config->setSslKey($this->dsn->keyFile);
        }
        $this->guarded(fn () => $this->connection = AMQPConnectionFactory::create($config));
    }

    public function hasQueue(string $name): bool
    {
        return $this->exists(static fn (AMQPChannel $channel) => $channel->queue_declare($name, true));
    }

    public function declareExchange(string $name, string $type): void
    {
        if (!$this->exists(static fn (AMQPChannel $channel) => $channel->exchange_declare($name, $type, true))) {
            $this->guarded(fn () => $this->channel()->exchange_declare($name, $type, false, true, false));
        }
    }

    public function declareQueue(string $name, array $arguments): void
    {
        $this->guarded(fn () => $this->channel()->queue_declare(
            $name,
            false,
            true,
            false,
            false,
            false,
            new AMQPTable($arguments),
        ));
    }

    public function bind(string $queue, string $exchange, string $routingKey): void
    {
        $this->guarded(fn () => $this->channel()->queue_bind($queue, $exchange, $routingKey));
    }

    public function consume(string $queue, int $prefetch): void
    {
        $this->guarded(function () use ($queue, $prefetch): void {
            $channel = $this->channel();
            $channel->basic_qos(0, $prefetch, false);
            $channel->basic_consume($queue, callback: function (AMQPMessage $message) use ($queue): void {
                $properties = $message->get_properties();
                $headers = $properties['application_headers'] ?? null;
                $this->arrived[] = new Delivery(
                    $queue,
                    (int) $message->getDeliveryTag(),
                    $message->getBody(),
                    $headers instanceof AMQPTable ? $headers->getNativeData() : [],
                    isset($properties['message_id']) ? (string) $properties['message_id'] : null,
                    (bool) $message->isRedelivered(),
                );
            });
        });
    }

    public function next(float $seconds): ?Delivery
    {
        if ([] === $this->arrived) {
            $this->guarded(function () use ($seconds): void {
                // After a handler that took long, what RabbitMQ sent meanwhile is unread: that is no silence of its.
                $this->read($seconds);
                $this->connection?->checkHeartBeat();
            });
        }

        return array_shift($this->arrived);
    }

    public function ack(Delivery $delivery): void
    {
        $this->guarded(fn () => $this->channel()->basic_ack($delivery->tag));
    }

    public function publish(string $exchange, string $routingKey, string $body, ?string $messageId, array $headers): void
    {
        $this->guarded(function () use ($exchange, $routingKey, $body, $messageId, $headers): void {
            $channel = $this->publishing ??= $this->publishing();
            $this->isRouted = true;
            $this->isConfirmed = false;
            $channel->basic_publish(new AMQPMessage($body, [
                'content_type' => 'application/json',
                'delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT,
                'application_headers' => new AMQPTable($headers),
            ] + (null === $messageId ? [] : ['message_id' => $messageId])), $exchange, $routingKey, true);
            $channel->wait_for_pending_acks_returns(2 * self::TIMEOUT_SECONDS);
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
        // Not what checks for RabbitMQ's own heartbeats: nobody reads while a handler runs.
        $connection = $this->connection;
        if (null !== $connection && !$connection->isWriting()) {
            $this->guarded(static function () use ($connection): void {
                $connection->write("\x08\x00\x00\x00\x00\x00\x00\xCE");
            });
        }
    }

    public function close(): void
    {
        try {
            $this->connection?->close();
        } catch (\Throwable) {
            // It was lost already.
        }
        $this->connection = $this->consuming = $this->publishing = null;
        $this->arrived = [];
    }

    private function read(float $seconds): void
    {
        try {
            $this->channel()->wait(null, false, max(0.001, $seconds));
        } catch (AMQPTimeoutException) {
            // Nothing came.
        }
    }

    private function channel(): AMQPChannel
    {
        return $this->consuming ??= $this->open();
    }

    private function open(): AMQPChannel
    {
        return ($this->connection ?? throw new AmqpException('RabbitMQ is not connected.'))->channel();
    }

    private function publishing(): AMQPChannel
    {
        $channel = $this->open();
        $channel->set_return_listener(function (): void {
            $this->isRouted = false;
        });
        $channel->set_ack_handler(function (): void {
            $this->isConfirmed = true;
        });
        $channel->confirm_select();

        return $channel;
    }

    /**
     * Asks for something by a channel of its own, which RabbitMQ closes if there is no such thing.
     *
     * @param \Closure(AMQPChannel): mixed $ask
     */
    private function exists(\Closure $ask): bool
    {
        return $this->guarded(function () use ($ask): bool {
            $channel = $this->open();
            try {
                $ask($channel);
                $channel->close();

                return true;
            } catch (AMQPProtocolChannelException $exception) {
                if (404 === $exception->amqp_reply_code) {
                    return false;
                }
                // It is there, but of another kind, or somebody's own.
                if (\in_array($exception->amqp_reply_code, [405, 406], true)) {
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
        } catch (AMQPBasicCancelException $exception) {
            throw new AmqpException(sprintf('RabbitMQ at %s deleted a queue that is read.', $this->dsn->address()), 0, $exception);
        } catch (AMQPExceptionInterface | \ErrorException $exception) {
            throw new AmqpException(sprintf('RabbitMQ at %s: %s', $this->dsn->address(), $exception->getMessage()), 0, $exception);
        }
    }
}
