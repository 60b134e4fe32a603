<?php

// What Predis 2 names differently, for the static analyser where Predis 1 is installed. Never loaded.

declare(strict_types=1);

namespace Predis\Connection\Cluster;

use Predis\Cluster\StrategyInterface;

class RedisCluster
{
    public function getClusterStrategy(): StrategyInterface
    {
    }
}
