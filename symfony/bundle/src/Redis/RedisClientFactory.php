<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Redis;

use Predis\Client as PredisLibrary;
use Snoke\WsBundle\Exception\MissingPackageException;

/**
 * Makes clients by what is installed: ext-redis, else Predis.
 *
 * Nothing connects before the first command.
 */
final class RedisClientFactory
{
    /**
     * @param string     $setting        path of the DSN below `snoke_ws`, for messages
     * @param float      $timeoutSeconds for connecting and for each answer
     * @param float|null $readSeconds    for each answer where that is longer, as for commands that block
     */
    public static function create(
        #[\SensitiveParameter] ?string $dsn,
        string $setting,
        float $timeoutSeconds = 5.0,
        ?float $readSeconds = null,
    ): RedisClientInterface {
        $parsed = RedisDsn::parse($dsn, $setting);
        $readSeconds ??= $timeoutSeconds;
        if (\extension_loaded('redis')) {
            return new PhpRedisClient(
                static fn (): \Redis|\RedisCluster => PhpRedisClient::connect($parsed, $timeoutSeconds, $readSeconds),
                $parsed->address(),
                $readSeconds,
            );
        }
        if (class_exists(PredisLibrary::class)) {
            return new PredisClient(
                static fn (): PredisLibrary => PredisClient::connect($parsed, $timeoutSeconds, $readSeconds),
                $parsed->address(),
                $readSeconds,
            );
        }
        throw MissingPackageException::for('"snoke_ws.' . $setting . '"', 'installing ext-redis, or "composer require predis/predis"');
    }
}
