<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Command;

use Symfony\Component\Console\Exception\InvalidOptionException;
use Symfony\Component\Console\Input\InputInterface;

/**
 * Reads the options of commands as what they must be.
 *
 * @internal
 */
final class Options
{
    public static function isJson(InputInterface $input): bool
    {
        $format = self::text($input, 'format');
        if (!\in_array($format, Report::FORMATS, true)) {
            throw new InvalidOptionException(sprintf('--format must be "%s", not "%s".', implode('" or "', Report::FORMATS), $format ?? ''));
        }

        return 'json' === $format;
    }

    public static function text(InputInterface $input, string $name): ?string
    {
        $value = $input->getOption($name);

        return \is_scalar($value) ? (string) $value : null;
    }

    /**
     * @return list<string> of an option that may be given several times
     */
    public static function texts(InputInterface $input, string $name): array
    {
        return self::all($input->getOption($name));
    }

    /**
     * @return list<string> of an argument that may be given several times
     */
    public static function arguments(InputInterface $input, string $name): array
    {
        return self::all($input->getArgument($name));
    }

    public static function flag(InputInterface $input, string $name): bool
    {
        return true === $input->getOption($name);
    }

    public static function seconds(InputInterface $input, string $name): float
    {
        $value = self::text($input, $name) ?? '';
        if (!is_numeric($value) || (float) $value <= 0 || (float) $value > 3600) {
            throw new InvalidOptionException(sprintf('--%s must be a number of seconds above 0, not "%s".', $name, $value));
        }

        return (float) $value;
    }

    public static function count(InputInterface $input, string $name, int $max): int
    {
        $value = self::text($input, $name) ?? '';
        if (1 !== preg_match('/^[1-9]\d{0,6}$/D', $value) || (int) $value > $max) {
            throw new InvalidOptionException(sprintf('--%s must be a whole number from 1 to %d, not "%s".', $name, $max, $value));
        }

        return (int) $value;
    }

    /**
     * @return list<string>
     */
    private static function all(mixed $values): array
    {
        $texts = [];
        foreach (\is_array($values) ? $values : [] as $value) {
            if (\is_scalar($value)) {
                $texts[] = (string) $value;
            }
        }

        return $texts;
    }
}
