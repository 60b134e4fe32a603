<?php

declare(strict_types=1);

use Symfony\Component\Routing\Loader\Configurator\RoutingConfigurator;

return static function (RoutingConfigurator $routes): void {
    // All that the profiler's own templates ask for.
    $routes->add('_profiler', '/_profiler/{token}');
};
