<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Support;

/**
 * A real gateway: the binary that WSGW_BINARY names, else this project's own build.
 */
final class Gateway
{
    public const API_KEY = 'hunter2-gateway-key';

    public readonly int $port;
    private readonly Server $server;

    /**
     * @param string                $settings JSON or YAML below `snoke_ws`, beside `server`
     * @param array<string, string> $env
     */
    public function __construct(string $settings, array $env = [])
    {
        $binary = self::binary();
        $this->port = Server::port();
        $directory = Server::directory();
        file_put_contents($directory . '/pipeline.yaml', <<<YAML
            snoke_ws:
              server: { listen: "127.0.0.1:{$this->port}", api_key: "hunter2-gateway-key", drain_seconds: 1 }
            {$settings}
            YAML);
        $this->server = new Server([$binary, 'run', 'pipeline.yaml'], $directory, $env);
        Server::wait('the gateway', function (): bool {
            if (!$this->server->isRunning()) {
                throw new \RuntimeException("The gateway ended:\n" . $this->server->output());
            }

            return Server::accepts($this->port) && 200 === $this->status('/ready');
        });
    }

    public static function binary(): string
    {
        $root = \dirname(__DIR__, 4);
        foreach ([getenv('WSGW_BINARY') ?: '', $root . '/target/release/wsgw', $root . '/target/debug/wsgw'] as $file) {
            if ('' !== $file && is_executable($file)) {
                return $file;
            }
        }
        throw new \RuntimeException('There is no gateway: run "cargo build", or set WSGW_BINARY.');
    }

    public function url(): string
    {
        return 'http://127.0.0.1:' . $this->port;
    }

    public function connect(string $token = '', string $cookie = ''): WsClient
    {
        return new WsClient($this->port, $token, $cookie);
    }

    public function output(): string
    {
        return $this->server->output();
    }

    public function remove(): void
    {
        $this->server->remove();
    }

    private function status(string $path): int
    {
        $context = stream_context_create(['http' => ['ignore_errors' => true, 'timeout' => 2]]);
        $answer = @fopen($this->url() . $path, 'r', false, $context);

        return false === $answer ? 0 : (int) explode(' ', stream_get_meta_data($answer)['wrapper_data'][0] . ' 0')[1];
    }
}
