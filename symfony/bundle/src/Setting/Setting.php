<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Setting;

use Snoke\WsBundle\Exception\InvalidSettingException;

/**
 * Checks one value below `snoke_ws`.
 *
 * The same checks run when the container is built and, for what comes from the environment, when it is used: an
 * environment variable is not known before.
 *
 * @internal
 */
final class Setting
{
    public const TRANSPORTS = ['http', 'redis_stream', 'rabbitmq', 'in_memory'];
    public const PRESENCES = ['http', 'redis', 'in_memory'];
    public const EVENTS = ['webhook', 'redis_stream', 'rabbitmq', 'none'];
    public const MODES = ['terminator', 'core'];
    public const STRATEGIES = ['none', 'ttl', 'heartbeat', 'session'];
    public const WRITERS = ['none', 'redis'];
    public const SIGNATURES = ['any', 'standard', 'symfony', 'body'];
    public const EXPORTERS = ['stdout', 'otlp', 'sdk', 'none'];
    public const ALGORITHMS = ['RS256', 'ES256', 'HS256'];
    public const SAME_SITES = ['strict', 'lax', 'none'];
    public const LOG_LEVELS = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency'];

    private const DEFAULTS = [
        'terminator' => ['transport' => 'http', 'presence' => 'http', 'events' => 'webhook'],
        'core' => ['transport' => 'redis_stream', 'presence' => 'redis', 'events' => 'redis_stream'],
    ];

    /**
     * Tells whether a value of the configuration is only known when it is used.
     */
    public static function isDynamic(mixed $value): bool
    {
        return \is_string($value) && 1 === preg_match('/env_[0-9a-f]{16}_\w+_[0-9a-f]{32}|%env\(.+\)%/', $value);
    }

    /**
     * The type of `transport`, `presence` or `events`: the given one, or what the mode implies.
     *
     * @param 'transport'|'presence'|'events' $section
     */
    public static function type(string $section, ?string $mode, ?string $type): string
    {
        $allowed = ['transport' => self::TRANSPORTS, 'presence' => self::PRESENCES, 'events' => self::EVENTS][$section];
        if (null !== $type && '' !== $type) {
            return self::choice($section . '.type', $type, $allowed);
        }

        return self::DEFAULTS[self::mode($mode)][$section];
    }

    public static function mode(?string $mode): string
    {
        return null === $mode || '' === $mode ? 'terminator' : self::choice('mode', $mode, self::MODES);
    }

    /**
     * @template T of string
     *
     * @param non-empty-list<T> $allowed
     *
     * @return T
     */
    public static function choice(string $path, ?string $value, array $allowed): string
    {
        if (!\in_array($value, $allowed, true)) {
            throw self::invalid($path, sprintf('is %s, and must be one of "%s"', self::quoted($value), implode('", "', $allowed)));
        }

        return $value;
    }

    /**
     * A text that must not be empty. The value is never shown.
     */
    public static function filled(string $path, ?string $value, string $hint): string
    {
        if (null === $value || '' === trim($value)) {
            throw self::invalid($path, 'is empty: ' . $hint);
        }

        return $value;
    }

    /**
     * @template T of int|float
     *
     * @param T $value
     *
     * @return T
     */
    public static function number(string $path, int|float $value, int|float $min, int|float $max): int|float
    {
        if ($value < $min || $value > $max) {
            throw self::invalid($path, sprintf('is %s, and must be from %s to %s', $value, $min, $max));
        }

        return $value;
    }

    /**
     * A URL with a host and one of the schemes, without a trailing slash. The value is never shown: it may hold a password.
     *
     * @param non-empty-list<string> $schemes
     */
    public static function url(string $path, ?string $value, array $schemes, string $example): string
    {
        $value = self::filled($path, $value, sprintf('set it, for instance to "%s"', $example));
        $parts = parse_url($value);
        if (
            !\is_array($parts)
            || '' === ($parts['host'] ?? '')
            || !\in_array(strtolower($parts['scheme'] ?? ''), $schemes, true)
        ) {
            throw self::invalid($path, sprintf('must be a URL that begins with "%s://", for instance "%s"', implode('://" or "', $schemes), $example));
        }

        return rtrim($value, '/');
    }

    /**
     * A path of a URL. One that an environment variable gives may lack its leading slash.
     */
    public static function path(string $path, ?string $value): string
    {
        $value = self::filled($path, $value, 'set it to a path such as "/ws"');
        if (1 === preg_match('/[\s?#]/', $value)) {
            throw self::invalid($path, 'must be the path of a URL, without a query and spaces');
        }

        return '/' . ltrim($value, '/');
    }

    /**
     * A DSN of one of the schemes. The value is never shown.
     *
     * @param non-empty-list<string> $schemes
     */
    public static function dsn(string $path, #[\SensitiveParameter] ?string $value, array $schemes, string $example): string
    {
        $value = self::filled($path, $value, sprintf('set it, for instance to "%s"', $example));
        if (!\in_array(strtolower(strstr($value, ':', true) ?: ''), $schemes, true)) {
            throw self::invalid($path, sprintf('must begin with "%s:", for instance "%s"', implode(':" or "', $schemes), $example));
        }

        return $value;
    }

    public static function invalid(string $path, string $what): InvalidSettingException
    {
        return new InvalidSettingException(sprintf('"snoke_ws.%s" %s.', $path, $what));
    }

    private static function quoted(?string $value): string
    {
        return null === $value || '' === $value ? 'empty' : (string) json_encode($value, \JSON_INVALID_UTF8_SUBSTITUTE | \JSON_UNESCAPED_SLASHES | \JSON_UNESCAPED_UNICODE);
    }
}
