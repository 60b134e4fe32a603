<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Redis;

use Snoke\WsBundle\Setting\Setting;

/**
 * Where a Redis is.
 *
 * `redis://[[user:]password@]host[:port][/database]`, `rediss://…` for TLS, `unix://[password@]/path[?database]`: what
 * stands alone before the `@` is the password. Several hosts, Sentinels and clusters are left to Symfony's cache, with
 * the gateway's own way to write them translated.
 *
 * @internal
 */
final class RedisDsn
{
    private function __construct(
        public readonly bool $tls,
        public readonly string $host,
        public readonly int $port,
        public readonly ?string $user,
        #[\SensitiveParameter] public readonly ?string $password,
        public readonly int $database,
        #[\SensitiveParameter] public readonly ?string $composite,
    ) {
    }

    /**
     * @param string $path the setting, for messages
     */
    public static function parse(#[\SensitiveParameter] ?string $dsn, string $path): self
    {
        $dsn = Setting::dsn($path, $dsn, ['redis', 'rediss', 'valkey', 'valkeys', 'unix'], 'redis://localhost:6379/0');
        [$scheme, $rest] = explode(':', $dsn, 2);
        $tls = \in_array($scheme, ['rediss', 'valkeys'], true);
        $rest = str_starts_with($rest, '//') ? substr($rest, 2) : $rest;
        [$before, $query] = self::cut('?', $rest, '');
        parse_str($query, $options);
        $user = $password = null;
        if (false !== $at = strrpos($before, '@')) {
            $login = explode(':', substr($before, 0, $at), 2);
            $before = substr($before, $at + 1);
            $password = rawurldecode($login[1] ?? $login[0]);
            $user = isset($login[1]) && '' !== $login[0] ? rawurldecode($login[0]) : null;
            $password = '' === $password ? null : $password;
        }
        $several = [] !== array_intersect(['host', 'redis_sentinel', 'sentinel_master', 'redis_cluster', 'cluster'], array_keys($options));
        if ($several || str_contains($before, ',')) {
            return new self($tls, '', 0, $user, $password, 0, self::composite($tls, $before, $password, $query, $options));
        }
        if ('unix' === $scheme) {
            $database = $options['database'] ?? $options['dbindex'] ?? '0';
            $database = \is_string($database) ? $database : 'none';
        } else {
            [$before, $database] = self::cut('/', $before, '0');
        }
        if ('' === $before || !ctype_digit($database) && '' !== $database) {
            throw Setting::invalid($path, 'is no DSN of Redis: write "redis://user:password@host:6379/0"');
        }
        $port = 6379;
        if ('unix' === $scheme) {
            $port = 0;
        } elseif (1 === preg_match('/^(\[[0-9a-fA-F:]+\]|[^:]+)(?::(\d{1,5}))?$/D', $before, $found)) {
            $before = $found[1];
            $port = (int) ($found[2] ?? 6379);
        } else {
            throw Setting::invalid($path, 'is no DSN of Redis: write "redis://user:password@host:6379/0"');
        }

        return new self($tls, $before, $port, $user, $password, (int) $database, null);
    }

    /**
     * Where it is, as messages may have it.
     */
    public function address(): string
    {
        return match (true) {
            null !== $this->composite => 'several hosts',
            0 === $this->port => $this->host,
            default => $this->host . ':' . $this->port,
        };
    }

    /**
     * @param array<int|string, mixed> $options
     */
    private static function composite(bool $tls, string $before, ?string $password, string $query, array $options): string
    {
        [$hosts, $database] = self::cut('/', $before, '');
        $master = $options['sentinel_master'] ?? null;
        $cluster = $options['cluster'] ?? null;
        unset($options['sentinel_master'], $options['cluster']);
        $parts = [];
        foreach (array_filter(explode(',', $hosts), static fn (string $host): bool => '' !== $host) as $host) {
            $parts[] = 'host[' . $host . ']';
        }
        if (null !== $master) {
            $options['redis_sentinel'] = $master;
        }
        if (null !== $cluster) {
            $options['redis_cluster'] = $cluster;
        }
        if ('' !== $database && '0' !== $database) {
            $options['dbindex'] = $database;
        }
        $rest = http_build_query(array_diff_key($options, ['host' => 1]));
        if (1 === preg_match_all('/(?:^|&)(host\[[^\]]*\](?:=[^&]*)?)/', $query, $found) || [] !== $found[1]) {
            array_push($parts, ...$found[1]);
        }

        return ($tls ? 'rediss:' : 'redis:') . (null === $password ? '' : rawurlencode($password) . '@')
            . '?' . implode('&', $parts) . ('' === $rest ? '' : '&' . $rest);
    }

    /**
     * @param non-empty-string $at
     *
     * @return array{string, string} what is before, and what is behind or else the default
     */
    private static function cut(string $at, #[\SensitiveParameter] string $text, string $default): array
    {
        $parts = explode($at, $text, 2);

        return [$parts[0], $parts[1] ?? $default];
    }
}
