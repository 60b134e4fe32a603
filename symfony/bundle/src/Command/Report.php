<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Command;

use Symfony\Component\Console\Formatter\OutputFormatter;
use Symfony\Component\Console\Output\OutputInterface;

/**
 * What a command found out, step by step: for people as it happens, or as JSON at the end.
 *
 * @internal
 */
final class Report
{
    public const FORMATS = ['text', 'json'];

    private const MARKS = ['ok' => '<info>ok  </info>', 'warning' => '<comment>warn</comment>', 'failed' => '<fg=red>FAIL</>', 'skipped' => '-   '];

    /** @var list<array{name: string, state: string, message: string, ms?: float, hint?: string}> */
    private array $steps = [];

    public function __construct(private readonly OutputInterface $output, private readonly bool $isJson)
    {
    }

    public function ok(string $name, string $message, ?float $seconds = null): void
    {
        $this->add('ok', $name, $message, $seconds);
    }

    public function warn(string $name, string $message, string $hint): void
    {
        $this->add('warning', $name, $message, null, $hint);
    }

    public function fail(string $name, string $message, string $hint = ''): void
    {
        $this->add('failed', $name, $message, null, $hint);
    }

    public function skip(string $name, string $message): void
    {
        $this->add('skipped', $name, $message);
    }

    public function hasFailed(): bool
    {
        return \in_array('failed', array_column($this->steps, 'state'), true);
    }

    /**
     * @param array<string, mixed> $facts what JSON has beside the steps
     */
    public function finish(array $facts = []): void
    {
        if ($this->isJson) {
            $this->output->writeln(
                json_encode(
                    ['ok' => !$this->hasFailed()] + $facts + ['steps' => $this->steps],
                    \JSON_THROW_ON_ERROR | \JSON_PRETTY_PRINT | \JSON_UNESCAPED_SLASHES | \JSON_UNESCAPED_UNICODE | \JSON_INVALID_UTF8_SUBSTITUTE,
                ),
                OutputInterface::OUTPUT_RAW,
            );
        }
    }

    private function add(string $state, string $name, string $message, ?float $seconds = null, string $hint = ''): void
    {
        $step = ['name' => $name, 'state' => $state, 'message' => $message];
        if (null !== $seconds) {
            $step['ms'] = round(1e3 * $seconds, 3);
        }
        if ('' !== $hint) {
            $step['hint'] = $hint;
        }
        $this->steps[] = $step;
        if ($this->isJson) {
            return;
        }
        $time = null === $seconds ? '' : sprintf('%.1f ms', 1e3 * $seconds);
        $this->output->writeln(sprintf(' %s  %-10s %10s  %s', self::MARKS[$state], $name, $time, OutputFormatter::escape($message)));
        if ('' !== $hint) {
            $this->output->writeln(sprintf('%30s  %s', '', OutputFormatter::escape($hint)));
        }
    }
}
