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
    /**
     * @param array<string, mixed> $config
     */
    public static function check(array $config): void
    {
        $uses = [
            'transport.type' => $config['transport']['type'],
            'presence.type' => $config['presence']['type'],
            'presence.writer.type' => $config['presence']['writer']['type'],
            'events.type' => $config['events']['type'],
        ];
        foreach ($uses as $path => $type) {
            $missing = match ($type) {
                'http' => class_exists(HttpClient::class) ? null : '"composer require symfony/http-client"',
                'redis', 'redis_stream' => \extension_loaded('redis') || class_exists(Client::class) ? null : 'installing ext-redis, or "composer require predis/predis"',
                'rabbitmq' => \extension_loaded('amqp') || class_exists(AMQPConnectionFactory::class) ? null : 'installing ext-amqp, or "composer require php-amqplib/php-amqplib"',
                default => null,
            };
            if (null !== $missing) {
                throw MissingPackageException::for(sprintf('"snoke_ws.%s: %s"', $path, $type), $missing);
            }
        }
    }
}
