<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer;

/**
 * Names workers after their host and process, so that another one of the host can tell that one is dead.
 *
 * @internal
 */
final class ConsumerName
{
    public static function own(): string
    {
        return self::host() . '-' . (string) getmypid();
    }

    /**
     * Whether the name is that of a process of this host that is no more.
     */
    public static function isDead(string $name): bool
    {
        $prefix = self::host() . '-';
        if ($name === self::own() || !str_starts_with($name, $prefix)) {
            return false;
        }
        $pid = substr($name, \strlen($prefix));
        if (1 !== preg_match('/^[1-9]\d{0,8}$/D', $pid)) {
            return false;
        }
        if (\function_exists('posix_kill')) {
            return !posix_kill((int) $pid, 0) && 3 === posix_get_last_error();
        }

        return is_dir('/proc/self') && !is_dir('/proc/' . $pid);
    }

    private static function host(): string
    {
        return gethostname() ?: 'localhost';
    }
}
