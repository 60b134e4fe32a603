<?php

// What ext-redis has beside the class Redis, for the static analyser, whose own description of the extension lacks it.
// Never loaded.

declare(strict_types=1);

class RedisClusterException extends \RuntimeException
{
}

class RedisCluster
{
    /**
     * @param list<string>|null $seeds
     * @param string|array{string, string}|null $auth
     * @param array<string, mixed>|null $context
     */
    public function __construct(
        ?string $name,
        ?array $seeds = null,
        int|float $timeout = 0,
        int|float $read_timeout = 0,
        bool $persistent = false,
        mixed $auth = null,
        ?array $context = null,
    ) {
    }

    public function clearLastError(): bool
    {
    }

    public function close(): bool
    {
    }

    public function getLastError(): ?string
    {
    }

    /**
     * @param string|array{string, int} $key_or_address which node to ask
     */
    public function rawCommand(string|array $key_or_address, string $command, mixed ...$args): mixed
    {
    }
}
