<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Command;

use Symfony\Component\Console\Exception\InvalidOptionException;
use Symfony\Component\Console\Input\InputInterface;

/**
 * Reads options that several commands have.
 *
 * @internal
 */
final class FormatOption
{
    public static function isJson(InputInterface $input): bool
    {
        $format = $input->getOption('format');
        if (!\in_array($format, Report::FORMATS, true)) {
            throw new InvalidOptionException(sprintf('--format must be "%s", not "%s".', implode('" or "', Report::FORMATS), $format));
        }

        return 'json' === $format;
    }

    public static function seconds(InputInterface $input, string $name): float
    {
        $value = (string) $input->getOption($name);
        if (!is_numeric($value) || (float) $value <= 0 || (float) $value > 3600) {
            throw new InvalidOptionException(sprintf('--%s must be a number of seconds above 0, not "%s".', $name, $value));
        }

        return (float) $value;
    }

    public static function count(InputInterface $input, string $name, int $max): int
    {
        $value = (string) $input->getOption($name);
        if (1 !== preg_match('/^[1-9]\d{0,6}$/D', $value) || (int) $value > $max) {
            throw new InvalidOptionException(sprintf('--%s must be a whole number from 1 to %d, not "%s".', $name, $max, $value));
        }

        return (int) $value;
    }
}
