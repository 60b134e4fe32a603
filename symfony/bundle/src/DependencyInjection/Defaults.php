<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DependencyInjection;

use Snoke\WsBundle\Setting\Setting;

/**
 * Values that follow from others: types from the mode, addresses from the transport's.
 *
 * They are part of the processed configuration, so that `debug:config` shows what is in force.
 *
 * @internal
 */
final class Defaults
{
    /** Section, part and key, and the part of the transport that gives the value where it is not set. */
    private const INHERITED = [
        ['presence', 'http', 'base_url', 'http'],
        ['presence', 'http', 'api_key', 'http'],
        ['presence', 'redis', 'dsn', 'redis_stream'],
        ['events', 'redis_stream', 'dsn', 'redis_stream'],
        ['events', 'rabbitmq', 'dsn', 'rabbitmq'],
    ];

    /**
     * @param array<string, mixed> $config
     *
     * @return array<string, mixed>
     */
    public static function complete(array $config): array
    {
        foreach (['transport', 'presence', 'events'] as $section) {
            // A mode from the environment decides when it is known.
            if (null === $config[$section]['type'] && !Setting::isDynamic($config['mode'])) {
                $config[$section]['type'] = Setting::type($section, $config['mode'], null);
            }
        }
        foreach (self::INHERITED as [$section, $part, $key, $from]) {
            $config[$section][$part][$key] ??= $config['transport'][$from][$key];
        }

        return $config;
    }
}
