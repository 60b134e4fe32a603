<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Support;

/**
 * A real RabbitMQ, by the script that the gateway's own tests use. It takes 10 to 20 seconds to start.
 */
final class RabbitMqServer
{
    public readonly int $port;
    public readonly int $tlsPort;
    private readonly Server $server;

    /** @var list<string> */
    private readonly array $command;
    private static ?self $shared = null;

    /**
     * One for all tests of a run: it ends with the process.
     */
    public static function shared(): self
    {
        return self::$shared ??= new self();
    }

    public function __construct()
    {
        $this->port = Server::port();
        $directory = Server::directory();
        file_put_contents($directory . '/enabled_plugins', "[].\n");
        $this->tlsPort = Server::port();
        $tls = Certificates::ofName();
        file_put_contents($directory . '/rabbitmq.conf', <<<CONF
            listeners.tcp.1 = 127.0.0.1:{$this->port}
            listeners.ssl.1 = 127.0.0.1:{$this->tlsPort}
            ssl_options.cacertfile = {$tls->authority}
            ssl_options.certfile = {$tls->certificate}
            ssl_options.keyfile = {$tls->key}
            ssl_options.verify = verify_peer
            ssl_options.fail_if_no_peer_cert = false
            disk_free_limit.absolute = 50MB

            CONF);
        $script = \dirname(__DIR__, 4) . '/tests/support/rabbitmq.sh';
        $this->command = ['sh', $script, $directory, (string) $this->port, (string) Server::port(), (string) Server::port()];
        $this->server = new Server($this->command, $directory, [], true);
        $this->waitUntilReady();
    }

    /** Kills it; what it kept on disk stays. */
    public function kill(): void
    {
        $this->server->say('kill');
        Server::wait('RabbitMQ\'s end', fn (): bool => !Server::accepts($this->port));
    }

    public function start(): void
    {
        $this->server->say('start');
        $this->waitUntilReady();
    }

    /** Runs rabbitmqctl. */
    public function control(string ...$arguments): void
    {
        exec(implode(' ', array_map(escapeshellarg(...), [...$this->command, 'ctl', ...$arguments])) . ' 2>&1', $output, $exit);
        if (0 !== $exit) {
            throw new \RuntimeException(implode("\n", $output));
        }
    }

    public function dsn(): string
    {
        return sprintf('amqp://guest:guest@127.0.0.1:%d/%%2f', $this->port);
    }

    private function waitUntilReady(): void
    {
        Server::wait('RabbitMQ', function (): bool {
            try {
                $connection = new \AMQPConnection(['host' => '127.0.0.1', 'port' => $this->port, 'connect_timeout' => 2, 'read_timeout' => 5]);
                $connection->connect();
                $connection->disconnect();

                return true;
            } catch (\AMQPException) {
                return false;
            }
        }, 90);
    }
}
