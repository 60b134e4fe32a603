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
        $nodes = $root
            ->arrayNode('presence')
                ->info('Who is online.')
                ->addDefaultsIfNotSet()
                ->children()
                    ->scalarNode('type')
                        ->info('Where it is read: "http" = the gateway\'s API, "redis", or "in_memory" for tests. Default: "http" in terminator mode, "redis" in core mode.')
                        ->example('%env(WS_PRESENCE_TYPE)%')
                        ->defaultNull()
                    ->end();
        $nodes
            ->arrayNode('http')
                ->info('From the API of one gateway. Needs symfony/http-client.')
                ->addDefaultsIfNotSet()
                ->children()
                    ->scalarNode('base_url')
                        ->info('Address of the gateway\'s internal API. Default: transport.http.base_url.')
                        ->example('%env(WS_GATEWAY_BASE_URL)%')
                        ->defaultNull()
                    ->end()
                    ->scalarNode('api_key')
                        ->info('The gateway\'s server.api_key. Default: transport.http.api_key.')
                        ->example('%env(WS_GATEWAY_API_KEY)%')
                        ->defaultNull()
                    ->end()
                    ->floatNode('timeout_seconds')
                        ->info('Seconds that a question may take, from 0.01 to 300.')
                        ->example(2.0)
                        ->defaultValue(5.0)
                    ->end()
                ->end()
            ->end()
            ->arrayNode('redis')
                ->info('From Redis, where the gateways, or the writer below, keep it. Needs ext-redis or predis/predis.')
                ->addDefaultsIfNotSet()
                ->children()
                    ->scalarNode('dsn')
                        ->info('Where Redis is. Default: transport.redis_stream.dsn.')
                        ->example('%env(WS_REDIS_DSN)%')
                        ->defaultNull()
                    ->end()
                    ->scalarNode('prefix')
                        ->info('Put before every key; the gateway\'s presence.redis.prefix.')
                        ->example('%env(WS_REDIS_PREFIX)%')
                        ->defaultValue('presence:')
                    ->end()
                ->end()
            ->end();
        self::interpretation($nodes);
        self::writer($nodes);
    }

    private static function interpretation(NodeBuilder $nodes): void
    {
        $nodes
            ->arrayNode('interpretation')
                ->info('Which of the connections that are written down count as alive.')
                ->addDefaultsIfNotSet()
                ->children()
                    ->scalarNode('strategy')
                        ->info('"none" = all of them; "ttl" = seen within ttl_seconds; "heartbeat" = seen within heartbeat_seconds; "session" = until the client disconnects.')
                        ->example('%env(WS_PRESENCE_INTERPRETATION_STRATEGY)%')
                        ->defaultValue('none')
                    ->end()
                    ->integerNode('ttl_seconds')
                        ->info('With "ttl", from 1 to 604800.')
                        ->example(120)
                        ->defaultValue(120)
                    ->end()
                    ->integerNode('heartbeat_seconds')
                        ->info('With "heartbeat", from 1 to 604800.')
                        ->example(30)
                        ->defaultValue(30)
                    ->end()
                    ->integerNode('grace_seconds')
                        ->info('On top of both, from 0 to 604800.')
                        ->example(15)
                        ->defaultValue(15)
                    ->end()
                    ->booleanNode('use_last_seen')
                        ->info('Whether time counts from last_seen_at; else from connected_at, so that connections end after a while however lively they are.')
                        ->example(true)
                        ->defaultTrue()
                    ->end()
                ->end()
            ->end();
    }

    private static function writer(NodeBuilder $nodes): void
    {
        $nodes
            ->arrayNode('writer')
                ->info('Whether the application itself writes presence down from the events it gets, for gateways that have no Redis.')
                ->addDefaultsIfNotSet()
                ->children()
                    ->scalarNode('type')
                        ->info('"none", or "redis" = to presence.redis, with the keys that the gateway uses.')
                        ->example('%env(WS_PRESENCE_WRITER_TYPE)%')
                        ->defaultValue('none')
                    ->end()
                    ->integerNode('ttl_seconds')
                        ->info('Seconds after which an entry goes by itself if no event refreshes it, from 0 to 604800; 0 = only when the client disconnects.')
                        ->example(3600)
                        ->defaultValue(3600)
                    ->end()
                    ->booleanNode('refresh_on_message')
                        ->info('Whether a client\'s message refreshes its entry.')
                        ->example(true)
                        ->defaultTrue()
                    ->end()
                ->end()
            ->end();
    }
}
