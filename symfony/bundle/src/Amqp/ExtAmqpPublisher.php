<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Amqp;

use Snoke\WsBundle\Exception\AmqpException;

/**
 * Publishes by ext-amqp.
 *
 * @internal
 */
final class ExtAmqpPublisher implements AmqpPublisherInterface
{
    private ?\AMQPExchange $exchange = null;
    private bool $wasUsed = false;
    private bool $isRouted = true;
    private ?bool $isConfirmed = null;

    public function __construct(private readonly AmqpDsn $dsn, private readonly AmqpTarget $target)
    {
    }

    public function publish(string $body, string $messageId, array $headers): bool
    {
        $isSecond = false;
        while (true) {
            $wasUsed = $this->wasUsed;
            try {
                return $this->tryOnce($body, $messageId, $headers);
            } catch (\AMQPException $exception) {
                $this->disconnect();
                // Only a kept connection may have been lost meanwhile; a new one that fails says how it is.
                if ($isSecond || !$wasUsed) {
                    throw new AmqpException(sprintf('RabbitMQ at %s: %s', $this->dsn->address(), $exception->getMessage()), 0, $exception);
                }
                $isSecond = true;
            }
        }
    }

    public function disconnect(): void
    {
        try {
            $this->exchange?->getConnection()->disconnect();
        } catch (\Throwable) {
            // It was lost already.
        }
        $this->exchange = null;
        $this->wasUsed = false;
    }

    /**
     * @param array<string, string> $headers
     *
     * @throws \AMQPException
     */
    private function tryOnce(string $body, string $messageId, array $headers): bool
    {
        $exchange = $this->exchange ??= $this->connect();
        $this->isRouted = true;
        $this->isConfirmed = null;
        $exchange->publish($body, $this->target->routingKey, \AMQP_MANDATORY, [
            'content_type' => 'application/json',
            'delivery_mode' => 2,
            'message_id' => $messageId,
            'headers' => $headers,
        ]);
        try {
            // A message that no queue takes is returned first, and then confirmed all the same.
            $exchange->getChannel()->waitForConfirm($this->target->timeoutSeconds);
        } catch (\AMQPQueueException $exception) {
            $this->disconnect();
            throw new AmqpException(sprintf('RabbitMQ at %s did not confirm within %s seconds.', $this->dsn->address(), $this->target->timeoutSeconds), 0, $exception);
        }
        if (!$this->isConfirmed()) {
            throw new AmqpException(sprintf('RabbitMQ at %s refused the message.', $this->dsn->address()));
        }
        $this->wasUsed = true;

        return $this->isRouted;
    }

    /**
     * What the callbacks of {@see connect()} have heard.
     */
    private function isConfirmed(): bool
    {
        return true === $this->isConfirmed;
    }

    /**
     * @throws \AMQPException
     */
    private function connect(): \AMQPExchange
    {
        $connection = new \AMQPConnection(array_filter([
            'host' => $this->dsn->host,
            'port' => $this->dsn->port,
            'vhost' => $this->dsn->vhost,
            'login' => $this->dsn->user,
            'password' => $this->dsn->password,
            'connect_timeout' => $this->target->timeoutSeconds,
            'rpc_timeout' => $this->target->timeoutSeconds,
            'read_timeout' => $this->target->timeoutSeconds,
            'write_timeout' => $this->target->timeoutSeconds,
            'connection_name' => 'snoke/ws-bundle',
            'cacert' => $this->dsn->authorities(),
            'cert' => $this->dsn->certFile,
            'key' => $this->dsn->keyFile,
            'verify' => $this->dsn->tls ? $this->dsn->verify : null,
        ], static fn ($value): bool => null !== $value));
        $connection->connect();
        $channel = new \AMQPChannel($connection);
        $exchange = new \AMQPExchange($channel);
        $exchange->setName($this->target->exchange);
        $exchange->setType(\AMQP_EX_TYPE_DIRECT);
        $exchange->setFlags(\AMQP_DURABLE);
        if ($this->target->declare) {
            $exchange->declareExchange();
        }
        $channel->setReturnCallback(function (): bool {
            $this->isRouted = false;

            // The confirm follows.
            return true;
        });
        $channel->setConfirmCallback(
            function (): bool {
                $this->isConfirmed = true;

                return false;
            },
            function (): bool {
                $this->isConfirmed = false;

                return false;
            },
        );
        $channel->confirmSelect();

        return $exchange;
    }
}
