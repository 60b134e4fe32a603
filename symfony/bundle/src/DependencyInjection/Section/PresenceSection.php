<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DependencyInjection\Section;

use Symfony\Component\Config\Definition\Builder\NodeBuilder;

/**
 * `snoke_ws.presence`: who is online, and who writes it down.
 *
 * @internal
 */
final class PresenceSection
{
    public static function add(NodeBuilder $root): void
    {
        $nodes = $root->arrayNode('presence')
            ->info('Who is online.')
            ->addDefaultsIfNotSet()
            ->children();
        $nodes->scalarNode('type')
            ->info('Where it is read: "http" = the gateway\'s API, "redis", or "in_memory" for tests. Default: "http" in terminator mode, "redis" in core mode.')
            ->example('%env(WS_PRESENCE_TYPE)%')
            ->defaultNull();
        $http = $nodes->arrayNode('http')
            ->info('From the API of one gateway. Needs symfony/http-client.')
            ->addDefaultsIfNotSet()
            ->children();
        $http->scalarNode('base_url')
            ->info('Address of the gateway\'s internal API. Default: transport.http.base_url.')
            ->example('%env(WS_GATEWAY_BASE_URL)%')
            ->defaultNull();
        $http->scalarNode('api_key')
            ->info('The gateway\'s server.api_key. Default: transport.http.api_key.')
            ->example('%env(WS_GATEWAY_API_KEY)%')
            ->defaultNull();
        $http->floatNode('timeout_seconds')
            ->info('Seconds that a question may take, from 0.01 to 300.')
            ->example('2.0')
            ->defaultValue(5.0);
        $redis = $nodes->arrayNode('redis')
            ->info('From Redis, where the gateways, or the writer below, keep it. Needs ext-redis or predis/predis.')
            ->addDefaultsIfNotSet()
            ->children();
        $redis->scalarNode('dsn')
            ->info('Where Redis is. Default: transport.redis_stream.dsn.')
            ->example('%env(WS_REDIS_DSN)%')
            ->defaultNull();
        $redis->scalarNode('prefix')
            ->info('Put before every key; the gateway\'s presence.redis.prefix.')
            ->example('%env(WS_REDIS_PREFIX)%')
            ->defaultValue('presence:');
        self::interpretation($nodes);
        self::writer($nodes);
    }

    private static function interpretation(NodeBuilder $nodes): void
    {
        $interpretation = $nodes->arrayNode('interpretation')
            ->info('Which of the connections that are written down count as alive.')
            ->addDefaultsIfNotSet()
            ->children();
        $interpretation->scalarNode('strategy')
            ->info('"none" = all of them; "ttl" = seen within ttl_seconds; "heartbeat" = seen within heartbeat_seconds; "session" = until the client disconnects.')
            ->example('%env(WS_PRESENCE_INTERPRETATION_STRATEGY)%')
            ->defaultValue('none');
        $interpretation->integerNode('ttl_seconds')
            ->info('With "ttl", from 1 to 604800.')
            ->example('120')
            ->defaultValue(120);
        $interpretation->integerNode('heartbeat_seconds')
            ->info('With "heartbeat", from 1 to 604800.')
            ->example('30')
            ->defaultValue(30);
        $interpretation->integerNode('grace_seconds')
            ->info('On top of both, from 0 to 604800.')
            ->example('15')
            ->defaultValue(15);
        $interpretation->booleanNode('use_last_seen')
            ->info('Whether time counts from last_seen_at; else from connected_at, so that connections end after a while however lively they are.')
            ->example('true')
            ->defaultTrue();
    }

    private static function writer(NodeBuilder $nodes): void
    {
        $writer = $nodes->arrayNode('writer')
            ->info('Whether the application itself writes presence down from the events it gets, for gateways that have no Redis.')
            ->addDefaultsIfNotSet()
            ->children();
        $writer->scalarNode('type')
            ->info('"none", or "redis" = to presence.redis, with the keys that the gateway uses.')
            ->example('%env(WS_PRESENCE_WRITER_TYPE)%')
            ->defaultValue('none');
        $writer->integerNode('ttl_seconds')
            ->info('Seconds after which an entry goes by itself if no event refreshes it, from 0 to 604800; 0 = only when the client disconnects.')
            ->example('3600')
            ->defaultValue(3600);
        $writer->booleanNode('refresh_on_message')
            ->info('Whether a client\'s message refreshes its entry.')
            ->example('true')
            ->defaultTrue();
    }
}
