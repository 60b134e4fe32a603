<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DependencyInjection;

use PhpAmqpLib\Connection\AMQPConnectionFactory;
use Predis\Client;
use Snoke\WsBundle\Exception\MissingPackageException;
use Symfony\Component\HttpClient\HttpClient;

/**
 * What must be installed for what is configured, as far as that is known when the container is built.
 *
 * @internal
 */
final class RequiredPackages
{
    /** Paths of choices that may need one. */
    private const CHOICES = ['transport.type', 'presence.type', 'presence.writer.type', 'events.type'];

    public static function check(Values $config): void
    {
        foreach (self::CHOICES as $path) {
            $type = $config->text($path);
            $missing = match ($type) {
                'http' => class_exists(HttpClient::class) ? null : '"composer require symfony/http-client"',
                'redis', 'redis_stream' => \extension_loaded('redis') || class_exists(Client::class) ? null : 'installing ext-redis, or "composer require predis/predis"',
                'rabbitmq' => \extension_loaded('amqp') || class_exists(AMQPConnectionFactory::class) ? null : 'installing ext-amqp, or "composer require php-amqplib/php-amqplib"',
                default => null,
            };
            if (null !== $missing) {
                throw MissingPackageException::for(sprintf('"snoke_ws.%s: %s"', $path, $type ?? ''), $missing);
            }
        }
    }
}
