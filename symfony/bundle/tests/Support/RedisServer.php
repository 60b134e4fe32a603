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
     * @param list<string>      $options
     * @param Certificates|null $tls     what to speak TLS with, and nothing else
     */
    public function __construct(private readonly array $options = [], private readonly ?Certificates $tls = null)
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
            'redis-server', '--bind', '127.0.0.1', '--port', null === $this->tls ? (string) $this->port : '0', '--daemonize', 'no',
            '--save', '', '--appendonly', 'no', '--dir', $this->directory,
            ...(null === $this->tls ? [] : $this->tls->forRedis($this->port)), ...$this->options,
        ], $this->directory);
        Server::wait('Redis', fn (): bool => Server::accepts($this->port));
    }

    public function stop(int $signal = \SIGTERM): void
    {
        $this->server?->stop($signal);
    }

    public function dsn(string $login = ''): string
    {
        return sprintf('%s://%s127.0.0.1:%d/0', null === $this->tls ? 'redis' : 'rediss', $login, $this->port);
    }

    public function remove(): void
    {
        $this->server?->remove();
    }
}
