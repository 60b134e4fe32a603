<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DependencyInjection\Section;

use Symfony\Component\Config\Definition\Builder\NodeBuilder;

/**
 * `snoke_ws.events`: how the application hears of what clients do.
 *
 * @internal
 */
final class EventsSection
{
    public static function add(NodeBuilder $root): void
    {
        $nodes = $root->arrayNode('events')
            ->info('How the application hears of what clients do.')
            ->addDefaultsIfNotSet()
            ->children();
        $nodes->scalarNode('type')
            ->info('One of "webhook", "redis_stream", "rabbitmq", "none". Default: "webhook" in terminator mode, "redis_stream" in core mode.')
            ->example('%env(WS_EVENTS_TYPE)%')
            ->defaultNull();
        self::webhook($nodes);
        self::redis($nodes);
        self::rabbitmq($nodes);
        self::consumer($nodes);
    }

    private static function webhook(NodeBuilder $nodes): void
    {
        $webhook = $nodes->arrayNode('webhook')
            ->info('The gateway posts events to the application.')
            ->addDefaultsIfNotSet()
            ->children();
        $webhook->booleanNode('enabled')
            ->info('Whether events are taken at all.')
            ->example('true')
            ->defaultTrue();
        $webhook->scalarNode('path')
            ->info('Path that the bundle\'s routes give the webhook: that of the gateway\'s events.webhook.url.')
            ->example('/internal/ws/events')
            ->defaultValue('/internal/ws/events');
        $webhook->scalarNode('secret')
            ->info('The gateway\'s events.webhook.secret, by which events are signed.')
            ->example('%env(SYMFONY_WEBHOOK_SECRET)%')
            ->defaultNull();
        $webhook->scalarNode('signature')
            ->info('Form of signature that is asked for: "standard", "symfony" (the gateway\'s events.webhook.signature), "body" (X-Webhook-Signature), or "any" = the strongest that a request bears. Only "standard" signs a time: with it alone nothing old is taken.')
            ->example('standard')
            ->defaultValue('any');
        $webhook->booleanNode('allow_unsigned')
            ->info('Take events without a signature where no secret is set. Anybody who can reach the path can then make up events.')
            ->example('false')
            ->defaultFalse();
        $webhook->integerNode('tolerance_seconds')
            ->info('Seconds by which the time of a signature may differ from this machine\'s, from 1 to 86400.')
            ->example('300')
            ->defaultValue(300);
        $webhook->integerNode('max_body_bytes')
            ->info('Largest body that is read, from 1024 to 1073741824.')
            ->example('1048576')
            ->defaultValue(1048576);
    }

    private static function redis(NodeBuilder $nodes): void
    {
        $redisStream = $nodes->arrayNode('redis_stream')
            ->info('ws:consume reads streams with a consumer group. Needs ext-redis or predis/predis.')
            ->addDefaultsIfNotSet()
            ->children();
        $redisStream->scalarNode('dsn')
            ->info('Where Redis is. Default: transport.redis_stream.dsn.')
            ->example('%env(WS_REDIS_DSN)%')
            ->defaultNull();
        $redisStream->scalarNode('stream')
            ->info('The stream of connects and disconnects; the gateway\'s events.redis_stream.stream.')
            ->example('%env(WS_REDIS_EVENTS_STREAM)%')
            ->defaultValue('ws.events');
        $redisStream->scalarNode('inbox_stream')
            ->info('The stream of messages; the gateway\'s events.redis_stream.inbox_stream.')
            ->example('ws.inbox')
            ->defaultValue('ws.inbox');
        $redisStream->variableNode('partitions')
            ->info('Where the gateway splits messages into shards, how many: its partitions, to read all of them. Where it appends keys, further streams to read: names, or patterns with "*".')
            ->example('%env(ORDERING_PARTITIONS)%')
            ->defaultValue([]);
        $redisStream->scalarNode('group')
            ->info('The consumer group. All workers of one application share it.')
            ->example('symfony')
            ->defaultValue('symfony');
        $redisStream->scalarNode('consumer')
            ->info('Name of a worker within the group. Default: host name and process id.')
            ->example('%env(WORKER_NAME)%')
            ->defaultNull();
        $redisStream->integerNode('batch')
            ->info('Entries read at once, from 1 to 1000.')
            ->example('20')
            ->defaultValue(20);
        $redisStream->integerNode('claim_idle_seconds')
            ->info('Seconds after which an entry that a worker took and did not finish is given to another, from 1 to 86400. Longer than any event takes to handle.')
            ->example('60')
            ->defaultValue(60);
        $redisStream->integerNode('max_deliveries')
            ->info('Tries after which an entry goes to the dead letters, from 1 to 1000.')
            ->example('5')
            ->defaultValue(5);
        $redisStream->scalarNode('dead_letter_stream')
            ->info('Where entries go that cannot be handled.')
            ->example('ws.dlq')
            ->defaultValue('ws.dlq');
        $redisStream->booleanNode('delete_after_ack')
            ->info('Whether handled entries are removed. Switch it off if others read the stream too, and let the gateway trim it (replay.strategy: bounded).')
            ->example('true')
            ->defaultTrue();
    }

    private static function rabbitmq(NodeBuilder $nodes): void
    {
        $rabbitmq = $nodes->arrayNode('rabbitmq')
            ->info('ws:consume reads queues. Needs ext-amqp or php-amqplib/php-amqplib.')
            ->addDefaultsIfNotSet()
            ->children();
        $rabbitmq->scalarNode('dsn')
            ->info('Where RabbitMQ is. Default: transport.rabbitmq.dsn.')
            ->example('%env(WS_RABBITMQ_DSN)%')
            ->defaultNull();
        $rabbitmq->scalarNode('exchange')
            ->info('The exchange of connects and disconnects; the gateway\'s events.rabbitmq.exchange.')
            ->example('ws.events')
            ->defaultValue('ws.events');
        $rabbitmq->scalarNode('routing_key')
            ->info('Their routing key; the gateway\'s events.rabbitmq.routing_key.')
            ->example('ws.events')
            ->defaultValue('ws.events');
        $rabbitmq->scalarNode('queue')
            ->info('The durable queue that is bound to it. If the gateway declares one (RABBITMQ_EVENTS_QUEUE), the same.')
            ->example('ws.events')
            ->defaultValue('ws.events');
        $rabbitmq->scalarNode('inbox_exchange')
            ->info('The exchange of messages; the gateway\'s events.rabbitmq.inbox_exchange.')
            ->example('ws.inbox')
            ->defaultValue('ws.inbox');
        $rabbitmq->scalarNode('inbox_exchange_type')
            ->info('Its type: "direct", or "topic" where the gateway partitions messages.')
            ->example('topic')
            ->defaultValue('direct');
        $rabbitmq->scalarNode('inbox_routing_key')
            ->info('Their routing key, or a pattern such as "ws.inbox.#" where the gateway partitions messages.')
            ->example('ws.inbox')
            ->defaultValue('ws.inbox');
        $rabbitmq->scalarNode('inbox_queue')
            ->info('The durable queue that is bound to it. If the gateway declares one (RABBITMQ_INBOX_QUEUE), the same.')
            ->example('ws.inbox')
            ->defaultValue('ws.inbox');
        $rabbitmq->variableNode('partitions')
            ->info('Where the gateway splits messages into shards, how many: its partitions. Each has a queue of its own, "ws.inbox.0" and so on. 0: none.')
            ->example('%env(ORDERING_PARTITIONS)%')
            ->defaultValue(0);
        $rabbitmq->booleanNode('inbox_single_active_consumer')
            ->info('Whether the queues of messages, where they have to be declared, give everything to one worker until it goes; the gateway\'s events.rabbitmq.inbox_single_active_consumer.')
            ->example('true')
            ->defaultFalse();
        $rabbitmq->booleanNode('declare')
            ->info('Whether to declare and bind the queues. Switch it off where the gateway declares them with arguments of its own.')
            ->example('true')
            ->defaultTrue();
        $rabbitmq->integerNode('prefetch')
            ->info('Messages that a worker takes at once, from 1 to 65535.')
            ->example('20')
            ->defaultValue(20);
        $rabbitmq->integerNode('max_deliveries')
            ->info('Tries after which a message goes to the dead letters, from 1 to 1000.')
            ->example('5')
            ->defaultValue(5);
        $rabbitmq->scalarNode('dead_letter_exchange')
            ->info('The exchange that messages go to that cannot be handled.')
            ->example('ws.dlq')
            ->defaultValue('ws.dlq');
        $rabbitmq->scalarNode('dead_letter_queue')
            ->info('The durable queue that is bound to it.')
            ->example('ws.dlq')
            ->defaultValue('ws.dlq');
    }

    private static function consumer(NodeBuilder $nodes): void
    {
        $consumer = $nodes->arrayNode('consumer')
            ->info('ws:consume, whatever it reads from.')
            ->addDefaultsIfNotSet()
            ->children();
        $consumer->scalarNode('log_level')
            ->info('Level that it logs each handled event with: "debug", "info", "notice", …')
            ->example('%env(WS_CONSUMER_LOG_LEVEL)%')
            ->defaultValue('debug');
    }
}
