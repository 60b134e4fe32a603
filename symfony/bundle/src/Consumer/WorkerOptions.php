<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer;

/**
 * When a worker ends, and how it tries again.
 */
final class WorkerOptions
{
    /**
     * @param int|null   $limit            entries after which it ends
     * @param float|null $timeLimitSeconds seconds after which it ends
     * @param int|null   $memoryLimitBytes memory after which it ends
     * @param int        $maxDeliveries    tries after which an entry goes to the dead letters
     * @param float      $retrySeconds     before the second try; doubled for each further one
     * @param float      $keepAliveSeconds between two signs of life while a handler runs; 0: none
     * @param string     $logLevel         level that each handled event is logged with
     */
    public function __construct(
        public readonly ?int $limit = null,
        public readonly ?float $timeLimitSeconds = null,
        public readonly ?int $memoryLimitBytes = null,
        public readonly int $maxDeliveries = 5,
        public readonly float $retrySeconds = 0.5,
        public readonly float $retryMaxSeconds = 30.0,
        public readonly float $keepAliveSeconds = 15.0,
        public readonly string $logLevel = 'debug',
    ) {
    }
}
