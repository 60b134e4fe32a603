<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration\App;

use Psr\Log\AbstractLogger;

/**
 * Keeps log lines, with their placeholders filled in.
 */
final class RecordingLogger extends AbstractLogger
{
    /** @var list<string> */
    public array $lines = [];

    public function log($level, $message, array $context = []): void
    {
        $values = [];
        foreach ($context as $key => $value) {
            $values['{' . $key . '}'] = \is_scalar($value) ? (string) $value : get_debug_type($value);
        }
        $this->lines[] = $level . ': ' . strtr((string) $message, $values);
    }

    public function text(): string
    {
        return implode("\n", $this->lines);
    }
}
