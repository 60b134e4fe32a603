<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Redis;

use Snoke\WsBundle\Setting\Setting;

/**
 * Where a Redis is, in the forms that the gateway and Symfony's cache take.
 *
 * `redis://[[user:]password@]host[:port][/database]`, `rediss://…` for TLS, `unix://[password@]/path[?database=N]`: what
 * stands alone before the `@` is the password. Several hosts, separated by commas or as `host[h:port]` in the query, need
 * `sentinel_master=NAME` (with `sentinel_username` and `sentinel_password` if the Sentinels ask for them), or `cluster=1`.
 * For TLS the query may have `cacert`, `cert`, `key` (files) and `verify=0`.
 *
 * @internal
 */
final class RedisDsn
{
    private const PORT = 6379;
    private const SENTINEL_PORT = 26379;

    /** Options of TLS, and what PHP calls them. */
    private const TLS = ['cacert' => 'cafile', 'cert' => 'local_cert', 'key' => 'local_pk'];

    /**
     * @param non-empty-list<array{string, int}> $nodes      hosts and ports; a socket has port 0
     * @param string|null                        $master     what the Sentinels, which are the nodes, call the server
     * @param array<string, string|bool>         $tlsOptions of PHP's stream context
     */
    private function __construct(
        public readonly bool $tls,
        public readonly array $nodes,
        public readonly ?string $user,
        #[\SensitiveParameter] public readonly ?string $password,
        public readonly int $database,
        public readonly ?string $master,
        public readonly ?string $sentinelUser,
        #[\SensitiveParameter] public readonly ?string $sentinelPassword,
        public readonly bool $isCluster,
        public readonly array $tlsOptions,
    ) {
    }

    /**
     * @param string $path the setting, for messages
     */
    public static function parse(#[\SensitiveParameter] ?string $dsn, string $path): self
    {
        $dsn = Setting::dsn($path, $dsn, ['redis', 'rediss', 'valkey', 'valkeys', 'unix'], 'redis://localhost:6379/0');
        [$scheme, $rest] = explode(':', $dsn, 2);
        $rest = str_starts_with($rest, '//') ? substr($rest, 2) : $rest;
        $parts = explode('?', $rest, 2);
        $before = $parts[0];
        parse_str(self::hostsInOrder($parts[1] ?? ''), $options);
        $user = null;
        $password = self::text($options, 'auth');
        if (false !== $at = strrpos($before, '@')) {
            $login = explode(':', substr($before, 0, $at), 2);
            $before = substr($before, $at + 1);
            $password = rawurldecode($login[1] ?? $login[0]);
            $user = isset($login[1]) && '' !== $login[0] ? rawurldecode($login[0]) : null;
            $password = '' === $password ? null : $password;
        }
        $master = self::text($options, 'sentinel_master') ?? self::text($options, 'redis_sentinel');
        $cluster = self::text($options, 'cluster') ?? self::text($options, 'redis_cluster') ?? '';
        $isCluster = filter_var($cluster, \FILTER_VALIDATE_BOOLEAN);
        $database = self::text($options, 'dbindex') ?? self::text($options, 'db') ?? self::text($options, 'database');
        $nodes = [];
        if ('unix' === $scheme) {
            $nodes[] = [$before, 0];
        } else {
            $parts = explode('/', $before, 2);
            $given = $parts[1] ?? '';
            $database = '' === $given ? $database : $given;
            $hosts = '' === $parts[0] ? [] : explode(',', $parts[0]);
            foreach (\is_array($options['hosts'] ?? null) ? $options['hosts'] : [] as $named) {
                if (\is_string($named)) {
                    $hosts[] = $named;
                }
            }
            foreach ($hosts as $host) {
                $nodes[] = self::node($host, null === $master ? self::PORT : self::SENTINEL_PORT, $path);
            }
        }
        if ([] === $nodes || '' === $nodes[0][0] || !ctype_digit($database ?? '0')) {
            throw Setting::invalid($path, 'is no DSN of Redis: write "redis://user:password@host:6379/0"');
        }
        match (true) {
            null !== $master && $isCluster => throw Setting::invalid($path, 'asks for Sentinels and for a cluster at once'),
            (null !== $master || $isCluster) && 'unix' === $scheme => throw Setting::invalid($path, 'names a socket: Sentinels and clusters have hosts'),
            $isCluster && 0 !== (int) $database => throw Setting::invalid($path, 'names a database: a cluster has no other than 0'),
            \count($nodes) > 1 && null === $master && !$isCluster => throw Setting::invalid($path, 'names several hosts: add "?sentinel_master=NAME" or "?cluster=1"'),
            default => null,
        };

        return new self(
            \in_array($scheme, ['rediss', 'valkeys'], true),
            $nodes,
            $user,
            $password,
            (int) $database,
            $master,
            self::text($options, 'sentinel_username'),
            self::text($options, 'sentinel_password'),
            $isCluster,
            self::tlsOptions($options),
        );
    }

    /**
     * Where it is, as messages may have it.
     */
    public function address(): string
    {
        return implode(', ', array_map(static fn (array $node): string => 0 === $node[1] ? $node[0] : $node[0] . ':' . $node[1], $this->nodes));
    }

    /**
     * Each of the Sentinels, as a server of its own.
     *
     * @return iterable<self>
     */
    public function sentinels(): iterable
    {
        foreach ($this->nodes as $node) {
            yield new self($this->tls, [$node], $this->sentinelUser, $this->sentinelPassword, 0, null, null, null, false, $this->tlsOptions);
        }
    }

    /**
     * The server that the Sentinels told of.
     */
    public function at(string $host, int $port): self
    {
        return new self($this->tls, [[$host, $port]], $this->user, $this->password, $this->database, null, null, null, false, $this->tlsOptions);
    }

    /**
     * PHP makes a list of several `host[h:port]` by their names, and dots in names are lost to it elsewhere.
     */
    private static function hostsInOrder(string $query): string
    {
        return (string) preg_replace('/(^|&)host\[([^\]]+\]?:?\d*)\](?:=[^&]*)?/', '$1hosts[]=$2', $query);
    }

    /**
     * @return array{string, int}
     */
    private static function node(string $text, int $port, string $path): array
    {
        if (1 !== preg_match('/^(\[[0-9a-fA-F:]+\]|[^:\/\[\]@\s]+)(?::(\d{1,5}))?$/D', $text, $found)) {
            throw Setting::invalid($path, 'is no DSN of Redis: write "redis://user:password@host:6379/0"');
        }

        return [$found[1], (int) ($found[2] ?? $port)];
    }

    /**
     * @param array<int|string, mixed> $options
     */
    private static function text(array $options, string $name): ?string
    {
        return \is_string($options[$name] ?? null) && '' !== $options[$name] ? $options[$name] : null;
    }

    /**
     * @param array<int|string, mixed> $options
     *
     * @return array<string, string|bool>
     */
    private static function tlsOptions(array $options): array
    {
        $tls = [];
        foreach (\is_array($options['ssl'] ?? null) ? $options['ssl'] : [] as $name => $value) {
            // As newer versions of Symfony's cache have them.
            if (\is_string($value)) {
                $isSwitch = \in_array($name, ['verify_peer', 'verify_peer_name', 'allow_self_signed', 'SNI_enabled'], true);
                $tls[(string) $name] = $isSwitch ? filter_var($value, \FILTER_VALIDATE_BOOLEAN) : $value;
            }
        }
        foreach (self::TLS as $name => $option) {
            if (null !== $value = self::text($options, $name)) {
                $tls[$option] = $value;
            }
        }
        if (\in_array(self::text($options, 'verify'), ['0', 'false'], true)) {
            $tls['verify_peer'] = $tls['verify_peer_name'] = false;
        }

        return $tls;
    }
}
