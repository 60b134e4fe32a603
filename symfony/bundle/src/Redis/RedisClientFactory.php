<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Redis;

use Predis\Client as PredisLibrary;
use Snoke\WsBundle\Exception\MissingPackageException;
use Snoke\WsBundle\Exception\RedisException;
use Symfony\Component\Cache\Adapter\RedisAdapter;

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
        $composite = $parsed->composite;
        if (\extension_loaded('redis')) {
            return new PhpRedisClient(
                static function () use ($parsed, $composite, $setting, $timeoutSeconds, $readSeconds): \Redis|\RedisCluster {
                    if (null === $composite) {
                        return PhpRedisClient::connect($parsed, $timeoutSeconds, $readSeconds);
                    }
                    $redis = self::viaCache($composite, $setting, $timeoutSeconds, $readSeconds);

                    return match (true) {
                        $redis instanceof \Redis => PhpRedisClient::withoutRetries($redis),
                        $redis instanceof \RedisCluster => $redis,
                        default => throw self::unknown($setting, $redis),
                    };
                },
                $parsed->address(),
                $readSeconds,
            );
        }
        if (class_exists(PredisLibrary::class)) {
            return new PredisClient(
                static function () use ($parsed, $composite, $setting, $timeoutSeconds, $readSeconds): PredisLibrary {
                    if (null === $composite) {
                        return PredisClient::connect($parsed, $timeoutSeconds, $readSeconds);
                    }
                    $redis = self::viaCache($composite, $setting, $timeoutSeconds, $readSeconds);

                    return $redis instanceof PredisLibrary ? $redis : throw self::unknown($setting, $redis);
                },
                $parsed->address(),
                $readSeconds,
            );
        }
        throw MissingPackageException::for('"snoke_ws.' . $setting . '"', 'installing ext-redis, or "composer require predis/predis"');
    }

    private static function viaCache(#[\SensitiveParameter] string $dsn, string $setting, float $timeoutSeconds, float $readSeconds): mixed
    {
        if (!class_exists(RedisAdapter::class)) {
            throw MissingPackageException::for('"snoke_ws.' . $setting . '" with several hosts', '"composer require symfony/cache"');
        }
        try {
            return RedisAdapter::createConnection($dsn, ['timeout' => $timeoutSeconds, 'read_timeout' => $readSeconds, 'lazy' => false]);
        } catch (\Throwable $exception) {
            // The message may hold the DSN.
            throw new RedisException(sprintf('Redis of "snoke_ws.%s" cannot be reached (%s).', $setting, $exception::class), true);
        }
    }

    private static function unknown(string $setting, mixed $redis): RedisException
    {
        return new RedisException(sprintf('The cache connects to Redis of "snoke_ws.%s" by %s, which is not known here.', $setting, get_debug_type($redis)));
    }
}
