<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DependencyInjection;

use Snoke\WsBundle\Consumer\Shards;
use Snoke\WsBundle\Exception\InvalidSettingException;
use Snoke\WsBundle\Setting\Setting;

/**
 * What must hold between the values below `snoke_ws`, as far as they are known when the container is built.
 *
 * Finds all problems, not the first. A value from the environment is skipped here, and checked by what uses it.
 *
 * @internal
 */
final class Rules
{
    private const REDIS = ['redis', 'rediss', 'unix', 'valkey', 'valkeys'];

    /** Path of a number => smallest and largest value. */
    private const RANGES = [
        'transport.http.timeout_seconds' => [0.01, 300],
        'transport.http.retries' => [0, 10],
        'transport.http.retry_max_seconds' => [0, 60],
        'transport.redis_stream.max_length' => [0, \PHP_INT_MAX],
        'transport.redis_stream.timeout_seconds' => [0.01, 300],
        'transport.rabbitmq.timeout_seconds' => [0.01, 300],
        'presence.http.timeout_seconds' => [0.01, 300],
        'presence.interpretation.ttl_seconds' => [1, 604800],
        'presence.interpretation.heartbeat_seconds' => [1, 604800],
        'presence.interpretation.grace_seconds' => [0, 604800],
        'presence.writer.ttl_seconds' => [0, 604800],
        'events.webhook.tolerance_seconds' => [1, 86400],
        'events.webhook.max_body_bytes' => [1024, 1073741824],
        'events.redis_stream.batch' => [1, 1000],
        'events.redis_stream.claim_idle_seconds' => [1, 86400],
        'events.redis_stream.max_deliveries' => [1, 1000],
        'events.rabbitmq.prefetch' => [1, 65535],
        'events.rabbitmq.max_deliveries' => [1, 1000],
        'token.ttl_seconds' => [1, 31536000],
        'tracing.sample_rate' => [0, 1],
        'dedupe.ttl_seconds' => [1, 31536000],
    ];

    /** Path of a choice => what it may be. */
    private const CHOICES = [
        'mode' => Setting::MODES,
        'presence.interpretation.strategy' => Setting::STRATEGIES,
        'presence.writer.type' => Setting::WRITERS,
        'events.webhook.signature' => Setting::SIGNATURES,
        'events.rabbitmq.inbox_exchange_type' => ['direct', 'topic', 'fanout'],
        'events.consumer.log_level' => Setting::LOG_LEVELS,
        'token.algorithm' => Setting::ALGORITHMS,
        'token.cookie.same_site' => Setting::SAME_SITES,
        'tracing.exporter' => Setting::EXPORTERS,
    ];

    /** Paths of texts that must not be empty. */
    private const FILLED = [
        'subjects.user_prefix' => 'a subject must tell users from everything else',
        'transport.redis_stream.stream' => 'name a stream, such as "ws.outbox"',
        'transport.rabbitmq.exchange' => 'name an exchange, such as "ws.outbox"',
        'events.redis_stream.stream' => 'name a stream, such as "ws.events"',
        'events.redis_stream.inbox_stream' => 'name a stream, such as "ws.inbox"',
        'events.redis_stream.group' => 'name a consumer group, such as "symfony"',
        'token.user_id_claim' => 'name a claim, such as "user_id"',
        'token.cookie.name' => 'name the cookie, such as "access_token"',
        'tracing.traceparent_field' => 'name a field, such as "traceparent"',
        'tracing.trace_id_field' => 'name a field, such as "trace_id"',
    ];

    /** @var list<string> */
    private array $problems = [];

    private readonly Values $config;

    /**
     * @param array<array-key, mixed> $config the processed values below `snoke_ws`
     */
    public function __construct(array $config)
    {
        $this->config = new Values($config);
    }

    /**
     * @return list<string> one sentence for each problem, with the path it is about
     */
    public function problems(): array
    {
        $this->problems = [];
        $this->values();
        $this->transport();
        $this->presence();
        $this->events();
        $this->token();
        $this->tracing();

        return $this->problems;
    }

    private function values(): void
    {
        foreach (self::RANGES as $path => [$min, $max]) {
            $this->try($path, static fn ($value) => \is_int($value) || \is_float($value) ? Setting::number($path, $value, $min, $max) : null);
        }
        foreach (self::CHOICES as $path => $allowed) {
            $this->try($path, static fn ($value) => Setting::choice($path, self::text($value), $allowed));
        }
        foreach (self::FILLED as $path => $hint) {
            $this->try($path, static fn ($value) => Setting::filled($path, self::text($value), $hint));
        }
        if (null !== $this->get('public_url')) {
            $this->try('public_url', static fn ($value) => Setting::url('public_url', self::text($value), ['ws', 'wss'], 'wss://app.example/ws'));
        }
    }

    private function transport(): void
    {
        $type = $this->type('transport');
        if ('http' === $type) {
            $this->httpAccess('transport.http');
            $this->try('transport.http.publish_path', static fn ($value) => Setting::path('transport.http.publish_path', self::text($value)));
        } elseif ('redis_stream' === $type) {
            $this->redis('transport.redis_stream');
        } elseif ('rabbitmq' === $type) {
            $this->rabbitmq('transport.rabbitmq');
        }
    }

    private function presence(): void
    {
        $type = $this->type('presence');
        // What the mode implies is no demand: the application may never ask.
        if ('http' === $this->get('presence.type') || ('http' === $type && null !== $this->get('presence.http.base_url'))) {
            $this->httpAccess('presence.http', 'transport.http');
        }
        if ('redis' === $type || 'redis' === $this->get('presence.writer.type')) {
            $this->redis('presence.redis', 'transport.redis_stream');
        }
    }

    private function events(): void
    {
        foreach (['redis_stream', 'rabbitmq'] as $broker) {
            $path = 'events.' . $broker . '.partitions';
            $this->try($path, static fn ($value) => Shards::count($path, $value));
        }
        $type = $this->type('events');
        if ('webhook' === $type && true === $this->get('events.webhook.enabled')) {
            $this->try('events.webhook.path', static fn ($value) => Setting::path('events.webhook.path', self::text($value)));
            if (false === $this->get('events.webhook.allow_unsigned')) {
                $this->try('events.webhook.secret', static fn ($value) => Setting::filled('events.webhook.secret', self::text($value), 'anybody could make up events. Set it to the gateway\'s events.webhook.secret, switch off events.webhook.enabled, or accept the risk with events.webhook.allow_unsigned'));
            }
        } elseif ('redis_stream' === $type) {
            $this->redis('events.redis_stream', 'transport.redis_stream');
        } elseif ('rabbitmq' === $type) {
            $this->rabbitmq('events.rabbitmq', 'transport.rabbitmq');
        }
    }

    private function token(): void
    {
        if (self::isSet($this->get('token.key')) && self::isSet($this->get('token.key_file'))) {
            $this->problems[] = Setting::invalid('token.key', 'and "snoke_ws.token.key_file" are both set: keep one of them')->getMessage();
        }
        $key = $this->get('token.key');
        if ('HS256' === $this->get('token.algorithm') && self::isSet($key) && !Setting::isDynamic($key) && \strlen(self::text($key) ?? '') < 32) {
            $this->problems[] = Setting::invalid('token.key', 'is shorter than the 32 bytes that HS256 needs')->getMessage();
        }
        if ('none' === $this->get('token.cookie.same_site') && false === $this->get('token.cookie.secure')) {
            $this->problems[] = Setting::invalid('token.cookie.same_site', 'is "none", which browsers take with "snoke_ws.token.cookie.secure" only')->getMessage();
        }
        $claims = $this->get('token.claims');
        foreach (\is_array($claims) ? array_keys($claims) : [] as $name) {
            if (\in_array($name, ['iat', 'exp', 'iss', 'aud', 'subjects', $this->get('token.user_id_claim')], true)) {
                $this->problems[] = Setting::invalid('token.claims', sprintf('has "%s", which the bundle sets itself', $name))->getMessage();
            }
        }
    }

    private function tracing(): void
    {
        if (true === $this->get('tracing.enabled') && 'otlp' === $this->get('tracing.exporter')) {
            $this->try('tracing.endpoint', static fn ($value) => Setting::url('tracing.endpoint', self::text($value), ['http', 'https'], 'http://collector:4318'));
        }
    }

    /**
     * @param string ...$sections the section, and where its values come from if they are not set
     */
    private function httpAccess(string ...$sections): void
    {
        $sections = array_values($sections);
        $url = $this->source('base_url', $sections);
        $this->try($url, static fn ($value) => Setting::url($url, self::text($value), ['http', 'https'], 'http://gateway:8000'));
        $key = $this->source('api_key', $sections);
        $this->try($key, static fn ($value) => Setting::filled($key, self::text($value), 'the gateway refuses calls without its server.api_key'));
    }

    /**
     * The path that a value comes from: the first that is set, else the first.
     *
     * @param list<string> $sections
     */
    private function source(string $name, array $sections): string
    {
        foreach ($sections as $section) {
            if (null !== $this->get($section . '.' . $name)) {
                return $section . '.' . $name;
            }
        }

        return $sections[0] . '.' . $name;
    }

    private function redis(string ...$sections): void
    {
        $path = $this->source('dsn', array_values($sections));
        $this->try($path, static fn ($value) => Setting::dsn($path, self::text($value), self::REDIS, 'redis://localhost:6379/0'));
    }

    private function rabbitmq(string ...$sections): void
    {
        $path = $this->source('dsn', array_values($sections));
        $this->try($path, static fn ($value) => Setting::dsn($path, self::text($value), ['amqp', 'amqps'], 'amqp://guest:guest@localhost:5672/%2f'));
    }

    /**
     * @param 'transport'|'presence'|'events' $section
     *
     * @return string|null null if it is not known yet, or wrong
     */
    private function type(string $section): ?string
    {
        $type = $this->get($section . '.type');
        $mode = $this->get('mode');
        if (Setting::isDynamic($type) || (null === $type && Setting::isDynamic($mode))) {
            return null;
        }
        if (null === $type && !\in_array($mode, Setting::MODES, true)) {
            return null;
        }
        try {
            return Setting::type($section, self::text($mode), self::text($type));
        } catch (InvalidSettingException $exception) {
            $this->problems[] = $exception->getMessage();

            return null;
        }
    }

    /**
     * @param \Closure(mixed): mixed $check
     */
    private function try(string $path, \Closure $check): void
    {
        $value = $this->get($path);
        if (Setting::isDynamic($value)) {
            return;
        }
        try {
            $check($value);
        } catch (InvalidSettingException $exception) {
            if (!\in_array($exception->getMessage(), $this->problems, true)) {
                $this->problems[] = $exception->getMessage();
            }
        }
    }

    private function get(string $path): mixed
    {
        return $this->config->get($path);
    }

    private static function text(mixed $value): ?string
    {
        return \is_scalar($value) ? (string) $value : null;
    }

    private static function isSet(mixed $value): bool
    {
        return null !== $value && '' !== $value;
    }
}
