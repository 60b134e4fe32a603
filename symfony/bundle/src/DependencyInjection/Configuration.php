<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DependencyInjection;

use Symfony\Component\Config\Definition\Builder\ArrayNodeDefinition;
use Symfony\Component\Config\Definition\Builder\TreeBuilder;
use Symfony\Component\Config\Definition\ConfigurationInterface;

/**
 * The tree below `snoke_ws`. Names that the gateway's pipeline file has too mean the same there.
 *
 * Choices are scalars, not enums: those refuse `%env(…)%`. What {@see Rules} checks when the container is built, the
 * services check again for values that come from the environment.
 *
 * Each node is a statement of its own: what end() gives within one long chain is known to no analyser before Symfony 7.4.
 */
final class Configuration implements ConfigurationInterface
{
    /**
     * @param bool $isConfigured whether the application says anything at all. The container of one that does not is
     *                           built, as installing the bundle must not break it; what is used then says what it lacks.
     */
    public function __construct(private readonly bool $isConfigured = true)
    {
    }

    public function getConfigTreeBuilder(): TreeBuilder
    {
        $tree = new TreeBuilder('snoke_ws');
        $root = $tree->getRootNode();
        \assert($root instanceof ArrayNodeDefinition, 'what a tree builder makes unless told otherwise');
        $nodes = $root->addDefaultsIfNotSet()->children();
        $nodes->scalarNode('mode')
            ->info('How the gateway and the application talk: "terminator" = HTTP and webhooks, "core" = brokers. It decides the defaults of transport.type, presence.type and events.type.')
            ->example('%env(WS_MODE)%')
            ->defaultValue('terminator');
        $nodes->scalarNode('public_url')
            ->info('Where clients connect: what ws_url() gives.')
            ->example('wss://app.example/ws')
            ->defaultNull();
        Section\SubjectsSection::add($nodes);
        Section\TransportSection::add($nodes);
        Section\PresenceSection::add($nodes);
        Section\EventsSection::add($nodes);
        Section\TokenSection::add($nodes);
        Section\TracingSection::add($nodes);
        Section\DedupeSection::add($nodes);
        $root->validate()->always(function (array $config): array {
            $problems = $this->isConfigured ? (new Rules($config))->problems() : [];
            if ([] !== $problems) {
                throw new \InvalidArgumentException(implode(' ', $problems));
            }

            return Defaults::complete($config);
        });

        return $tree;
    }
}
