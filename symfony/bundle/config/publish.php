<?php

declare(strict_types=1);

namespace Symfony\Component\DependencyInjection\Loader\Configurator;

use Snoke\WsBundle\Amqp\AmqpPublisherFactory;
use Snoke\WsBundle\Amqp\AmqpPublisherInterface;
use Snoke\WsBundle\Amqp\AmqpTarget;
use Snoke\WsBundle\Publisher\Transport\HttpTransport;
use Snoke\WsBundle\Publisher\Transport\RabbitMqTransport;
use Snoke\WsBundle\Publisher\Transport\RedisStreamTransport;
use Snoke\WsBundle\Publisher\Transport\TransportFactory;
use Snoke\WsBundle\Publisher\Transport\TransportInterface;
use Snoke\WsBundle\Publisher\WebsocketPublisher;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;
use Snoke\WsBundle\Redis\RedisClientFactory;
use Snoke\WsBundle\Redis\RedisClientInterface;
use Snoke\WsBundle\Tracing\TraceContextInterface;
use Snoke\WsBundle\User\UserIdResolver;
use Snoke\WsBundle\User\UserIdResolverInterface;

return static function (ContainerConfigurator $container): void {
    $http = '%snoke_ws.transport.http.';
    $redis = '%snoke_ws.transport.redis_stream.';
    $rabbitmq = '%snoke_ws.transport.rabbitmq.';

    $container->services()
        ->set('snoke_ws.user_id_resolver', UserIdResolver::class)
        ->alias(UserIdResolverInterface::class, 'snoke_ws.user_id_resolver')

        ->set('snoke_ws.transport.http', HttpTransport::class)
            ->args([
                service('http_client')->nullOnInvalid(),
                $http . 'base_url%',
                $http . 'publish_path%',
                $http . 'api_key%',
                $http . 'timeout_seconds%',
                $http . 'retries%',
                $http . 'retry_max_seconds%',
            ])

        ->set('snoke_ws.transport.redis_stream.client', RedisClientInterface::class)
            ->factory([RedisClientFactory::class, 'create'])
            ->args([$redis . 'dsn%', 'transport.redis_stream.dsn', $redis . 'timeout_seconds%'])
        ->set('snoke_ws.transport.redis_stream', RedisStreamTransport::class)
            ->args([service('snoke_ws.transport.redis_stream.client'), $redis . 'stream%', $redis . 'max_length%'])

        ->set('snoke_ws.transport.rabbitmq.target', AmqpTarget::class)
            ->args([$rabbitmq . 'exchange%', $rabbitmq . 'routing_key%', $rabbitmq . 'declare%', $rabbitmq . 'timeout_seconds%'])
        ->set('snoke_ws.transport.rabbitmq.publisher', AmqpPublisherInterface::class)
            ->factory([AmqpPublisherFactory::class, 'create'])
            ->args([$rabbitmq . 'dsn%', 'transport.rabbitmq.dsn', service('snoke_ws.transport.rabbitmq.target')])
        ->set('snoke_ws.transport.rabbitmq', RabbitMqTransport::class)
            ->args([service('snoke_ws.transport.rabbitmq.publisher'), service('snoke_ws.transport.rabbitmq.target')])

        // Each is made only if the type, which may come from the environment, chooses it.
        ->set('snoke_ws.transport', TransportInterface::class)
            ->factory([TransportFactory::class, 'create'])
            ->args(['%snoke_ws.mode%', '%snoke_ws.transport.type%', [
                'http' => service_closure('snoke_ws.transport.http'),
                'redis_stream' => service_closure('snoke_ws.transport.redis_stream'),
                'rabbitmq' => service_closure('snoke_ws.transport.rabbitmq'),
                'in_memory' => service_closure('snoke_ws.transport.in_memory'),
            ]])
        ->alias(TransportInterface::class, 'snoke_ws.transport')

        ->set('snoke_ws.publisher', WebsocketPublisher::class)
            ->args([
                service(TransportInterface::class),
                '%snoke_ws.subjects.user_prefix%',
                service(UserIdResolverInterface::class),
                service(TraceContextInterface::class),
                service('logger')->nullOnInvalid(),
            ])
            ->tag('monolog.logger', ['channel' => 'snoke_ws'])
        ->alias(WebsocketPublisherInterface::class, 'snoke_ws.publisher')
    ;
};
