<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Support;

/**
 * A real Redis.
 */
final class RedisServer
{
    public readonly int $port;
    private readonly string $directory;
    private ?Server $server = null;

    /**
     * @param list<string> $options
     */
    public function __construct(private readonly array $options = [])
    {
        $this->port = Server::port();
        $this->directory = Server::directory();
        $this->start();
    }

    public function start(): void
    {
        // The one before takes its directory with it.
        $this->server = null;
        clearstatcache();
        is_dir($this->directory) || mkdir($this->directory, 0700);
        $this->server = new Server([
            'redis-server', '--bind', '127.0.0.1', '--port', (string) $this->port, '--daemonize', 'no', '--save', '',
            '--appendonly', 'no', '--dir', $this->directory, ...$this->options,
        ], $this->directory);
        Server::wait('Redis', fn (): bool => Server::accepts($this->port));
    }

    public function stop(int $signal = \SIGTERM): void
    {
        $this->server?->stop($signal);
    }

    public function dsn(string $login = ''): string
    {
        return sprintf('redis://%s127.0.0.1:%d/0', $login, $this->port);
    }

    public function remove(): void
    {
        $this->server?->remove();
    }
}
