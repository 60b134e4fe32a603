<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DependencyInjection\Section;

use Symfony\Component\Config\Definition\Builder\NodeBuilder;

/**
 * `snoke_ws.subjects`: the names of addresses.
 *
 * @internal
 */
final class SubjectsSection
{
    public static function add(NodeBuilder $root): void
    {
        $subjects = $root->arrayNode('subjects')
            ->info('The addresses that pushes go to.')
            ->addDefaultsIfNotSet()
            ->children();
        $subjects->scalarNode('user_prefix')
            ->info('Put before a user\'s id to make the subject of all his connections. The gateway has the same setting.')
            ->example('user:')
            ->defaultValue('user:');
    }
}
