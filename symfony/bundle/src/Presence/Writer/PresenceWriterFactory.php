<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Presence\Writer;

use Snoke\WsBundle\Setting\Setting;

/**
 * Chooses the writer by `presence.writer.type`, which may come from the environment.
 */
final class PresenceWriterFactory
{
    /**
     * @param \Closure(): PresenceWriterInterface $redis
     */
    public static function create(?string $type, \Closure $redis): PresenceWriterInterface
    {
        return 'redis' === Setting::choice('presence.writer.type', $type, Setting::WRITERS) ? $redis() : new NullPresenceWriter();
    }
}
