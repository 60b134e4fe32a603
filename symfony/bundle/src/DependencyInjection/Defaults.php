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
    /** Path => where its value comes from if it is not set. */
    private const INHERITED = [
        'presence.http.base_url' => 'transport.http.base_url',
        'presence.http.api_key' => 'transport.http.api_key',
        'presence.redis.dsn' => 'transport.redis_stream.dsn',
        'events.redis_stream.dsn' => 'transport.redis_stream.dsn',
        'events.rabbitmq.dsn' => 'transport.rabbitmq.dsn',
    ];

    /**
     * @param array<array-key, mixed> $config
     *
     * @return array<array-key, mixed>
     */
    public static function complete(array $config): array
    {
        $values = new Values($config);
        foreach (['transport', 'presence', 'events'] as $section) {
            // A mode from the environment decides when it is known.
            if (null === $values->get($section . '.type') && !Setting::isDynamic($values->get('mode'))) {
                $values->set($section . '.type', Setting::type($section, $values->text('mode'), null));
            }
        }
        foreach (self::INHERITED as $path => $from) {
            if (null === $values->get($path)) {
                $values->set($path, $values->get($from));
            }
        }

        return $values->all();
    }
}
