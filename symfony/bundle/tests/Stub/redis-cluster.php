<?php

// What ext-redis has beside the class Redis, for the static analyser, whose own description of the extension lacks it.
// Never loaded.

declare(strict_types=1);

class RedisClusterException extends \RuntimeException
{
}

class RedisCluster
{
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
