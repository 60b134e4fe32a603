<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer;

/**
 * Signals to a worker, where ext-pcntl is there: SIGTERM and SIGINT stop it, SIGALRM paces its signs of life.
 *
 * @internal
 */
final class Signals
{
    /** @var array<int, callable|int> */
    private array $before = [];
    private readonly bool $wasAsync;
    private readonly bool $isAvailable;

    /**
     * @param \Closure(): void $stop
     */
    public function __construct(\Closure $stop)
    {
        $this->isAvailable = \function_exists('pcntl_signal') && \function_exists('pcntl_async_signals');
        $this->wasAsync = $this->isAvailable && pcntl_async_signals(true);
        if (!$this->isAvailable) {
            return;
        }
        foreach ([\SIGTERM, \SIGINT, \SIGQUIT] as $signal) {
            $this->before[$signal] = self::handlerOf($signal);
            pcntl_signal($signal, static function () use ($stop): void {
                $stop();
            });
        }
    }

    /**
     * Runs what takes signals as they come, such as a handler, and something else every so often meanwhile.
     *
     * @param float            $seconds between two of the latter, at least 1; 0 = never
     * @param \Closure(): void $often
     * @param \Closure(): void $operation
     */
    public function during(float $seconds, \Closure $often, \Closure $operation): void
    {
        if (!$this->isAvailable) {
            $operation();

            return;
        }
        $wasAsync = pcntl_async_signals(true);
        try {
            $seconds > 0.0 ? $this->paced($seconds, $often, $operation) : $operation();
        } finally {
            pcntl_async_signals($wasAsync);
        }
    }

    /**
     * Runs what calls a broker, and looks for signals after it.
     *
     * PHP drops a signal that comes within a function of an extension, if that then throws and the exception is caught:
     * such as when a broker and its worker are stopped together. Here it waits until all that is over.
     *
     * @template T
     *
     * @param \Closure(): T $operation
     *
     * @return T
     */
    public function deferred(\Closure $operation): mixed
    {
        if (!$this->isAvailable) {
            return $operation();
        }
        $wasAsync = pcntl_async_signals(false);
        try {
            return $operation();
        } finally {
            pcntl_async_signals($wasAsync);
            pcntl_signal_dispatch();
        }
    }

    public function restore(): void
    {
        if (!$this->isAvailable) {
            return;
        }
        foreach ($this->before as $signal => $handler) {
            pcntl_signal($signal, $handler);
        }
        pcntl_async_signals($this->wasAsync);
    }

    /**
     * @param \Closure(): void $often
     * @param \Closure(): void $operation
     */
    private function paced(float $seconds, \Closure $often, \Closure $operation): void
    {
        $interval = max(1, (int) $seconds);
        $before = self::handlerOf(\SIGALRM);
        pcntl_signal(\SIGALRM, static function () use ($often, $interval): void {
            try {
                $often();
            } catch (\Throwable) {
                // A sign of life that does not get through must not end the handler; the source finds out by itself.
            }
            pcntl_alarm($interval);
        });
        pcntl_alarm($interval);
        try {
            $operation();
        } finally {
            pcntl_alarm(0);
            pcntl_signal(\SIGALRM, $before);
        }
    }

    private static function handlerOf(int $signal): callable|int
    {
        /** @var mixed $handler */
        $handler = pcntl_signal_get_handler($signal);

        return \is_int($handler) || \is_callable($handler) ? $handler : \SIG_DFL;
    }
}
