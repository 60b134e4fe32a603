<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration\App;

use Snoke\WsBundle\Tests\Support\Server;

/**
 * The receiving application in processes of its own, and what it wrote down.
 */
final class Application
{
    public readonly string $directory;

    /** @var list<Process> */
    private array $processes = [];
    private ?Server $web = null;

    /**
     * @param array<string, mixed> $settings  below `snoke_ws`
     * @param array<string, mixed> $framework below `framework`
     */
    public function __construct(private readonly array $settings, private readonly array $framework = [])
    {
        $this->directory = Server::directory();
    }

    public function start(string ...$arguments): Process
    {
        return $this->processes[] = new Process(
            [\PHP_BINARY, __DIR__ . '/console.php', ...$arguments],
            $this->environment(),
            $this->directory . '/output-' . \count($this->processes),
        );
    }

    /**
     * Runs a command to its end.
     */
    public function run(string ...$arguments): Process
    {
        $process = $this->start(...$arguments);
        $process->wait();

        return $process;
    }

    /**
     * Serves it by HTTP, and gives the URL.
     */
    public function serve(): string
    {
        $port = Server::port();
        $this->web = new Server(
            [\PHP_BINARY, '-S', '127.0.0.1:' . $port, __DIR__ . '/front.php'],
            Server::directory(),
            $this->environment(),
        );
        Server::wait('the application', static fn (): bool => Server::accepts($port));

        return 'http://127.0.0.1:' . $port;
    }

    public function webOutput(): string
    {
        return $this->web?->output() ?? '';
    }

    /**
     * The events that were handled, as "type message-type number".
     *
     * @return list<string>
     */
    public function events(): array
    {
        return array_map(trim(...), @file($this->directory . '/events') ?: []);
    }

    /**
     * @return list<string>
     */
    public function waitForEvents(int $count, float $seconds = 20.0): array
    {
        $end = microtime(true) + $seconds;
        while (\count($this->events()) < $count && microtime(true) < $end) {
            usleep(20_000);
        }

        return $this->events();
    }

    public function remove(): void
    {
        foreach ($this->processes as $process) {
            $process->signal(\SIGKILL);
        }
        $this->web?->remove();
        exec('rm -rf ' . escapeshellarg($this->directory));
    }

    /**
     * @return array<string, string>
     */
    private function environment(): array
    {
        return [
            'APP_SETTINGS' => json_encode($this->settings, \JSON_THROW_ON_ERROR),
            'APP_FRAMEWORK' => json_encode($this->framework, \JSON_THROW_ON_ERROR),
            'APP_DIRECTORY' => $this->directory,
        ];
    }
}
