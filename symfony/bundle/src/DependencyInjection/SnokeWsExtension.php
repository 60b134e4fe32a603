<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DependencyInjection;

use Symfony\Component\Config\FileLocator;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\DependencyInjection\Exception\LogicException;
use Symfony\Component\DependencyInjection\Extension\Extension;
use Symfony\Component\DependencyInjection\Loader\PhpFileLoader;

/**
 * Makes the values below `snoke_ws` parameters of the same names, and loads the services of each part.
 *
 * A part whose type comes from the environment is loaded with every type it can be.
 */
final class SnokeWsExtension extends Extension
{
    /** Files below config/, in the order that lets a later one replace what an earlier one defines. */
    private const FILES = [
        'services', 'publish', 'token', 'presence', 'tracing', 'receive', 'consume', 'messenger_publish',
        'messenger_receive', 'twig', 'testing', 'profiler', 'commands',
    ];

    /** Maps whose keys are the user's, so that they stay one parameter. */
    private const MAPS = ['snoke_ws.token.claims'];

    /**
     * @param array<array-key, mixed> $configs
     */
    public function load(array $configs, ContainerBuilder $container): void
    {
        $configuration = $this->getConfiguration($configs, $container);
        $config = $this->processConfiguration($configuration, $configs);
        $this->setParameters($container, 'snoke_ws', $config);
        if ([] !== array_filter($configs)) {
            RequiredPackages::check(new Values($config));
        }
        $loader = new PhpFileLoader($container, new FileLocator(\dirname(__DIR__, 2) . '/config'));
        foreach (self::FILES as $file) {
            if (is_file(\dirname(__DIR__, 2) . '/config/' . $file . '.php')) {
                $loader->load($file . '.php');
            }
        }
    }

    /**
     * @param array<array-key, mixed> $config
     */
    public function getConfiguration(array $config, ContainerBuilder $container): Configuration
    {
        return new Configuration([] !== array_filter($config));
    }

    /**
     * @param array<array-key, mixed> $values
     */
    private function setParameters(ContainerBuilder $container, string $name, array $values): void
    {
        foreach ($values as $key => $value) {
            $parameter = $name . '.' . (string) $key;
            if (\is_array($value) && !array_is_list($value) && !\in_array($parameter, self::MAPS, true)) {
                $this->setParameters($container, $parameter, $value);
            } elseif (null === $value || \is_scalar($value) || \is_array($value)) {
                $container->setParameter($parameter, $value);
            } else {
                throw new LogicException(sprintf('"%s" is a %s, which no parameter can be.', $parameter, get_debug_type($value)));
            }
        }
    }
}
