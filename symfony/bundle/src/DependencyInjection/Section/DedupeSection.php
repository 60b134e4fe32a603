<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DependencyInjection\Section;

use Symfony\Component\Config\Definition\Builder\NodeBuilder;

/**
 * `snoke_ws.dedupe`: events that come twice.
 *
 * @internal
 */
final class DedupeSection
{
    public static function add(NodeBuilder $root): void
    {
        $dedupe = $root->arrayNode('dedupe')
            ->info('Events are delivered at least once: the ids of handled ones are remembered, and repeats skipped.')
            ->addDefaultsIfNotSet()
            ->children();
        $dedupe->booleanNode('enabled')
            ->info('Whether repeats are skipped.')
            ->example('true')
            ->defaultTrue();
        $dedupe->scalarNode('cache')
            ->info('Id of the cache pool (PSR-6) that remembers; with several hosts one that they share. Default: cache.app.')
            ->example('cache.app')
            ->defaultNull();
        $dedupe->integerNode('ttl_seconds')
            ->info('Seconds that an id is remembered, from 1 to 31536000. Longer than the gateway retries.')
            ->example('86400')
            ->defaultValue(86400);
    }
}
