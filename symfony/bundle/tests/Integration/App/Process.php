<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration\App;

/**
 * A command that runs.
 */
final class Process
{
    /** @var resource */
    private $process;
    private ?int $exit = null;

    /**
     * @param list<string>          $command
     * @param array<string, string> $env
     */
    public function __construct(array $command, array $env, private readonly string $output)
    {
        $file = ['file', $output, 'a'];
        $process = proc_open($command, [0 => ['file', '/dev/null', 'r'], 1 => $file, 2 => $file], $pipes, null, $env + getenv());
        if (!\is_resource($process)) {
            throw new \RuntimeException('It does not start.');
        }
        $this->process = $process;
    }

    public function pid(): int
    {
        return proc_get_status($this->process)['pid'];
    }

    public function signal(int $signal): void
    {
        if ($this->isRunning()) {
            proc_terminate($this->process, $signal);
        }
    }

    public function isRunning(): bool
    {
        $status = proc_get_status($this->process);
        if (!$status['running'] && null === $this->exit) {
            $this->exit = $status['signaled'] ? 128 + $status['termsig'] : $status['exitcode'];
        }

        return $status['running'];
    }

    /**
     * Waits for its end and gives the exit code, 128 + N after signal N.
     */
    public function wait(float $seconds = 30.0): int
    {
        $end = microtime(true) + $seconds;
        while ($this->isRunning()) {
            if (microtime(true) > $end) {
                $this->signal(\SIGKILL);
                throw new \RuntimeException("It does not end:\n" . $this->output());
            }
            usleep(10_000);
        }

        return (int) $this->exit;
    }

    public function output(): string
    {
        return (string) @file_get_contents($this->output);
    }

    public function waitFor(string $text, float $seconds = 20.0): void
    {
        $end = microtime(true) + $seconds;
        while (!str_contains($this->output(), $text)) {
            if (microtime(true) > $end) {
                throw new \RuntimeException(sprintf("It does not say \"%s\":\n%s", $text, $this->output()));
            }
            usleep(10_000);
        }
    }
}
