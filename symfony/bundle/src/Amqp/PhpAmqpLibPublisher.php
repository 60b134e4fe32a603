<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Amqp;

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AMQPConnectionConfig;
use PhpAmqpLib\Connection\AMQPConnectionFactory;
use PhpAmqpLib\Exception\AMQPExceptionInterface;
use PhpAmqpLib\Exception\AMQPTimeoutException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;
use Snoke\WsBundle\Exception\AmqpException;

/**
 * Publishes by php-amqplib.
 *
 * @internal
 */
final class PhpAmqpLibPublisher implements AmqpPublisherInterface
{
    private ?AMQPChannel $channel = null;
    private bool $wasUsed = false;
    private bool $isRouted = true;
    private bool $isConfirmed = false;

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
            } catch (AMQPTimeoutException $exception) {
                $this->disconnect();
                throw new AmqpException(sprintf('RabbitMQ at %s did not answer within %s seconds.', $this->dsn->address(), $this->target->timeoutSeconds), 0, $exception);
            } catch (\Exception $exception) {
                if (!$exception instanceof AMQPExceptionInterface && !$exception instanceof \ErrorException) {
                    throw $exception;
                }
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
            $this->channel?->getConnection()?->close();
        } catch (\Throwable) {
            // It was lost already.
        }
        $this->channel = null;
        $this->wasUsed = false;
    }

    /**
     * @param array<string, string> $headers
     */
    private function tryOnce(string $body, string $messageId, array $headers): bool
    {
        $channel = $this->channel ??= $this->connect();
        $this->isRouted = true;
        $this->isConfirmed = false;
        $channel->basic_publish(new AMQPMessage($body, [
            'content_type' => 'application/json',
            'delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT,
            'message_id' => $messageId,
            'application_headers' => new AMQPTable($headers),
        ]), $this->target->exchange, $this->target->routingKey, true);
        // A message that no queue takes is returned first, and then confirmed all the same.
        $channel->wait_for_pending_acks_returns($this->target->timeoutSeconds);
        if (!$this->isConfirmed()) {
            throw new AmqpException(sprintf('RabbitMQ at %s refused the message.', $this->dsn->address()));
        }
        $this->wasUsed = true;

        return $this->isRouted;
    }

    /**
     * What the handlers of {@see connect()} have heard.
     */
    private function isConfirmed(): bool
    {
        return $this->isConfirmed;
    }

    private function connect(): AMQPChannel
    {
        $config = new AMQPConnectionConfig();
        $config->setHost($this->dsn->host);
        $config->setPort($this->dsn->port);
        $config->setUser($this->dsn->user);
        $config->setPassword($this->dsn->password);
        $config->setVhost($this->dsn->vhost);
        $config->setConnectionTimeout($this->target->timeoutSeconds);
        $config->setReadTimeout($this->target->timeoutSeconds);
        $config->setWriteTimeout($this->target->timeoutSeconds);
        $config->setChannelRPCTimeout($this->target->timeoutSeconds);
        // Nobody would send them while the application does something else.
        $config->setHeartbeat(0);
        // PHP cannot set it on TLS.
        $config->setKeepalive(!$this->dsn->tls);
        $config->setConnectionName('snoke/ws-bundle');
        if ($this->dsn->tls) {
            $config->setIsSecure(true);
            // Without it the certificates are read, and nothing is encrypted.
            $config->setNetworkProtocol('tls');
            $config->setSslVerify($this->dsn->verify);
            $config->setSslVerifyName($this->dsn->verify);
            $config->setSslCaCert($this->dsn->caFile);
            $config->setSslCert($this->dsn->certFile);
            $config->setSslKey($this->dsn->keyFile);
        }
        $channel = AMQPConnectionFactory::create($config)->channel();
        if ($this->target->declare) {
            $channel->exchange_declare($this->target->exchange, 'direct', false, true, false);
        }
        $channel->set_return_listener(function (): void {
            $this->isRouted = false;
        });
        $channel->set_ack_handler(function (): void {
            $this->isConfirmed = true;
        });
        $channel->set_nack_handler(function (): void {
            $this->isConfirmed = false;
        });
        $channel->confirm_select();

        return $channel;
    }
}
