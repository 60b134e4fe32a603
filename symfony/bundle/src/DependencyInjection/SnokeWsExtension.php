<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DependencyInjection;

use Snoke\WsBundle\Setting\Setting;
use Symfony\Component\Config\FileLocator;
use Symfony\Component\DependencyInjection\ContainerBuilder;
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

    /** Settings that take another one's value where they are not set. */
    private const INHERITED = [
        'presence.http.base_url' => 'transport.http.base_url',
        'presence.http.api_key' => 'transport.http.api_key',
        'presence.redis.dsn' => 'transport.redis_stream.dsn',
        'events.redis_stream.dsn' => 'transport.redis_stream.dsn',
        'events.rabbitmq.dsn' => 'transport.rabbitmq.dsn',
    ];

    /**
     * @param array<array<string, mixed>> $configs
     */
    public function load(array $configs, ContainerBuilder $container): void
    {
        $config = $this->processConfiguration(new Configuration(), $configs);
        foreach (['transport', 'presence', 'events'] as $section) {
            if (null === $config[$section]['type'] && !Setting::isDynamic($config['mode'])) {
                $config[$section]['type'] = Setting::type($section, $config['mode'], null);
            }
        }
        $this->setParameters($container, 'snoke_ws', $config);
        foreach (self::INHERITED as $path => $from) {
            if (null === $container->getParameter('snoke_ws.' . $path)) {
                $container->setParameter('snoke_ws.' . $path, $container->getParameter('snoke_ws.' . $from));
            }
        }
        RequiredPackages::check($config);
        $loader = new PhpFileLoader($container, new FileLocator(\dirname(__DIR__, 2) . '/config'));
        foreach (self::FILES as $file) {
            if (is_file(\dirname(__DIR__, 2) . '/config/' . $file . '.php')) {
                $loader->load($file . '.php');
            }
        }
    }

    /**
     * @param array<string, mixed> $values
     */
    private function setParameters(ContainerBuilder $container, string $name, array $values): void
    {
        foreach ($values as $key => $value) {
            $parameter = $name . '.' . $key;
            if (\is_array($value) && !array_is_list($value) && !\in_array($parameter, self::MAPS, true)) {
                $this->setParameters($container, $parameter, $value);
            } else {
                $container->setParameter($parameter, $value);
            }
        }
    }
}
