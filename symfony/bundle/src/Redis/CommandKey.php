<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Redis;

/**
 * Knows which argument of a command decides which node of a cluster gets it.
 *
 * @internal
 */
final class CommandKey
{
    /**
     * @param array<int|string, string|int|float> $arguments
     */
    public static function of(string $command, array $arguments): string
    {
        $arguments = array_map(strval(...), array_values($arguments));
        $at = match (strtoupper($command)) {
            'XREADGROUP', 'XREAD' => self::after('STREAMS', $arguments),
            // The node that has the names with the pattern's hash tag.
            'SCAN' => self::after('MATCH', $arguments),
            'EVAL', 'EVALSHA' => 2,
            'XGROUP', 'XINFO' => 1,
            default => 0,
        };

        return $arguments[$at] ?? '';
    }

    /**
     * @param list<string> $arguments
     */
    private static function after(string $word, array $arguments): int
    {
        $at = array_search($word, array_map(strtoupper(...), $arguments), true);

        return false === $at ? 0 : $at + 1;
    }
}
