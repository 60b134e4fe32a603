<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Support;

/**
 * A server of a test's own, on a private port. It ends with the test, however that ends.
 */
final class Server
{
    /** @var resource */
    private $process;

    /** @var array<int, resource> */
    private array $pipes = [];

    /**
     * @param list<string>         $command
     * @param array<string, string> $env
     * @param bool                  $endsWithInput whether it cleans up and ends when its standard input closes
     */
    public function __construct(
        array $command,
        public readonly string $directory,
        array $env = [],
        private readonly bool $endsWithInput = false,
    ) {
        $process = proc_open($command, [0 => ['pipe', 'r'], 1 => ['file', $directory . '/out', 'a'], 2 => ['file', $directory . '/out', 'a']], $this->pipes, $directory, $env + getenv());
        if (!\is_resource($process)) {
            throw new \RuntimeException(sprintf('%s does not start.', $command[0]));
        }
        $this->process = $process;
    }

    public static function directory(): string
    {
        $directory = sys_get_temp_dir() . '/wsgw-test-' . bin2hex(random_bytes(6));
        mkdir($directory, 0700);

        return $directory;
    }

    /**
     * A port that nobody listens on.
     *
     * Not an ephemeral one, which any connection of this machine may be given before the server binds it.
     */
    public static function port(): int
    {
        for ($try = 0; $try < 200; ++$try) {
            $port = random_int(20000, 31999);
            $socket = @stream_socket_server('tcp://127.0.0.1:' . $port);
            if (false !== $socket) {
                fclose($socket);

                return $port;
            }
        }

        throw new \RuntimeException('No port between 20000 and 32000 is free.');
    }

    /**
     * @param \Closure(): bool $isSo
     */
    public static function wait(string $for, \Closure $isSo, float $seconds = 30.0): void
    {
        $end = microtime(true) + $seconds;
        while (!$isSo()) {
            if (microtime(true) > $end) {
                throw new \RuntimeException(sprintf('Waited for %s seconds for %s.', $seconds, $for));
            }
            usleep(20_000);
        }
    }

    public static function accepts(int $port): bool
    {
        $socket = @fsockopen('127.0.0.1', $port, timeout: 1.0);
        if (false === $socket) {
            return false;
        }
        fclose($socket);

        return true;
    }

    public function isRunning(): bool
    {
        return proc_get_status($this->process)['running'];
    }

    public function output(): string
    {
        return (string) file_get_contents($this->directory . '/out');
    }

    /**
     * Says something to its standard input; what ends with it hears of that.
     */
    public function say(string $line): void
    {
        fwrite($this->pipes[0], $line . "\n");
    }

    public function stop(int $signal = \SIGTERM): void
    {
        if (!\is_resource($this->process)) {
            return;
        }
        @fclose($this->pipes[0]);
        proc_terminate($this->process, $signal);
        self::wait('the end of a server', fn (): bool => !$this->isRunning());
        proc_close($this->process);
    }

    /**
     * Stops it, and removes its directory.
     */
    public function remove(): void
    {
        $this->stop();
        exec('rm -rf ' . escapeshellarg($this->directory));
    }

    public function __destruct()
    {
        if (\is_resource($this->process)) {
            @fclose($this->pipes[0]);
            if (!$this->endsWithInput) {
                proc_terminate($this->process, \SIGKILL);
            }
            proc_close($this->process);
        }
        exec('rm -rf ' . escapeshellarg($this->directory));
    }
}
