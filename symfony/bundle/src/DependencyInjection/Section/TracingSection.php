<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DependencyInjection\Section;

use Symfony\Component\Config\Definition\Builder\NodeBuilder;

/**
 * `snoke_ws.tracing`: spans around pushes and events.
 *
 * @internal
 */
final class TracingSection
{
    public static function add(NodeBuilder $root): void
    {
        $tracing = $root->arrayNode('tracing')
            ->info('W3C trace context and spans around pushes and events.')
            ->addDefaultsIfNotSet()
            ->children();
        $tracing->booleanNode('enabled')
            ->info('Whether pushes and events are traced.')
            ->example('%env(bool:WS_TRACING_ENABLED)%')
            ->defaultFalse();
        $tracing->scalarNode('exporter')
            ->info('Where spans go: "stdout", "otlp" (needs symfony/http-client), "sdk" (the OpenTelemetry SDK that the application has), or "none" = trace context is passed on only.')
            ->example('%env(WS_TRACING_EXPORTER)%')
            ->defaultValue('none');
        $tracing->scalarNode('endpoint')
            ->info('With "otlp": base URL of the collector; /v1/traces is appended.')
            ->example('http://collector:4318')
            ->defaultNull();
        $tracing->scalarNode('headers')
            ->info('With "otlp": headers for the collector, as OTEL_EXPORTER_OTLP_HEADERS has them: "name=value,name=value".')
            ->example('%env(string:default::OTEL_EXPORTER_OTLP_HEADERS)%')
            ->defaultNull();
        $tracing->scalarNode('service_name')
            ->info('Name of the application in traces.')
            ->example('app')
            ->defaultValue('symfony');
        $tracing->scalarNode('traceparent_field')
            ->info('Field of an event that holds the traceparent; the gateway\'s is fixed.')
            ->example('%env(WS_TRACEPARENT_FIELD)%')
            ->defaultValue('traceparent');
        $tracing->scalarNode('trace_id_field')
            ->info('Field of an event that holds the trace id; the gateway\'s tracing.trace_id_field.')
            ->example('%env(WS_TRACE_ID_FIELD)%')
            ->defaultValue('trace_id');
        $tracing->booleanNode('hash_user_ids')
            ->info('Whether spans have a hash of the user\'s id (user.hash) instead of the id (user.id), as the gateway\'s tracing.hash_user_ids.')
            ->example('true')
            ->defaultTrue();
        $tracing->scalarNode('user_hash_key')
            ->info('Key of these hashes: the gateway\'s tracing.user_hash_key. Empty: transport.http.api_key, as the gateway uses its own; without either spans name no user.')
            ->example('%env(WS_TRACING_USER_HASH_KEY)%')
            ->defaultNull();
        $tracing->floatNode('sample_rate')
            ->info('Share of new traces that are recorded, from 0 to 1. A trace that comes in is recorded if it says so.')
            ->example('0.1')
            ->defaultValue(1.0);
    }
}
