<?php

declare(strict_types=1);

use Symfony\Component\Routing\Loader\Configurator\RoutingConfigurator;

return static function (RoutingConfigurator $routes): void {
    $routes
        ->add('snoke_ws_webhook', '%snoke_ws.events.webhook.path%')
            ->controller('snoke_ws.webhook.controller')
            ->methods(['POST'])
    ;
};
