<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DependencyInjection\Section;

use Symfony\Component\Config\Definition\Builder\NodeBuilder;

/**
 * `snoke_ws.transport`: how pushes reach the gateway.
 *
 * @internal
 */
final class TransportSection
{
    public static function add(NodeBuilder $root): void
    {
        $nodes = $root->arrayNode('transport')
            ->info('How pushes reach the gateway.')
            ->addDefaultsIfNotSet()
            ->children();
        $nodes->scalarNode('type')
            ->info('One of "http", "redis_stream", "rabbitmq", or "in_memory" for tests. Default: "http" in terminator mode, "redis_stream" in core mode.')
            ->example('%env(WS_TRANSPORT_TYPE)%')
            ->defaultNull();
        self::http($nodes);
        self::redis($nodes);
        self::rabbitmq($nodes);
    }

    private static function http(NodeBuilder $nodes): void
    {
        $http = $nodes->arrayNode('http')
            ->info('By POST to one gateway. Needs symfony/http-client.')
            ->addDefaultsIfNotSet()
            ->children();
        $http->scalarNode('base_url')
            ->info('Address of the gateway\'s internal API.')
            ->example('%env(WS_GATEWAY_BASE_URL)%')
            ->defaultNull();
        $http->scalarNode('publish_path')
            ->info('Path of the call. The gateway\'s is fixed; a proxy may put something before it.')
            ->example('/internal/publish')
            ->defaultValue('/internal/publish');
        $http->scalarNode('api_key')
            ->info('The gateway\'s server.api_key.')
            ->example('%env(WS_GATEWAY_API_KEY)%')
            ->defaultNull();
        $http->floatNode('timeout_seconds')
            ->info('Seconds that one try may take, from 0.01 to 300.')
            ->example('2.0')
            ->defaultValue(5.0);
        $http->integerNode('retries')
            ->info('Further tries, from 0 to 10. Only what cannot have reached a client is tried again: a refused connection, 429, and 503 with Retry-After.')
            ->example('2')
            ->defaultValue(2);
        $http->floatNode('retry_max_seconds')
            ->info('Longest wait before a further try, from 0 to 60; where Retry-After asks for more, the push fails at once.')
            ->example('2.0')
            ->defaultValue(2.0);
    }

    private static function redis(NodeBuilder $nodes): void
    {
        $redisStream = $nodes->arrayNode('redis_stream')
            ->info('By a Redis stream that every gateway reads. Needs ext-redis or predis/predis.')
            ->addDefaultsIfNotSet()
            ->children();
        $redisStream->scalarNode('dsn')
            ->info('Where Redis is: redis://user:password@host:6379/0, rediss://… for TLS, unix:///path. Sentinels: redis://h1,h2/0?sentinel_master=main. A cluster: redis://h1,h2?cluster=1. TLS files: ?cacert=…&cert=…&key=….')
            ->example('%env(WS_REDIS_DSN)%')
            ->defaultNull();
        $redisStream->scalarNode('stream')
            ->info('The stream; the gateway\'s transport.redis_stream.stream.')
            ->example('%env(WS_REDIS_STREAM)%')
            ->defaultValue('ws.outbox');
        $redisStream->integerNode('max_length')
            ->info('About how many pushes the stream keeps; 0 = all, then trimming is left to you.')
            ->example('100000')
            ->defaultValue(100000);
        $redisStream->floatNode('timeout_seconds')
            ->info('Seconds that connecting, or one answer, may take, from 0.01 to 300.')
            ->example('2.0')
            ->defaultValue(5.0);
    }

    private static function rabbitmq(NodeBuilder $nodes): void
    {
        $rabbitmq = $nodes->arrayNode('rabbitmq')
            ->info('By a RabbitMQ exchange, with publisher confirms. Needs ext-amqp or php-amqplib/php-amqplib.')
            ->addDefaultsIfNotSet()
            ->children();
        $rabbitmq->scalarNode('dsn')
            ->info('Where RabbitMQ is: amqp://user:password@host:5672/vhost, amqps://… for TLS, with ?cacert=…&cert=…&key=….')
            ->example('%env(WS_RABBITMQ_DSN)%')
            ->defaultNull();
        $rabbitmq->scalarNode('exchange')
            ->info('The exchange; the gateway\'s transport.rabbitmq.exchange.')
            ->example('%env(WS_RABBITMQ_EXCHANGE)%')
            ->defaultValue('ws.outbox');
        $rabbitmq->scalarNode('routing_key')
            ->info('The routing key; the gateway\'s transport.rabbitmq.routing_key.')
            ->example('%env(WS_RABBITMQ_ROUTING_KEY)%')
            ->defaultValue('ws.outbox');
        $rabbitmq->booleanNode('declare')
            ->info('Whether to declare the exchange (durable, direct), as the gateway does, so that either may start first.')
            ->example('true')
            ->defaultTrue();
        $rabbitmq->floatNode('timeout_seconds')
            ->info('Seconds that connecting, or one confirm, may take, from 0.01 to 300.')
            ->example('2.0')
            ->defaultValue(5.0);
    }
}
