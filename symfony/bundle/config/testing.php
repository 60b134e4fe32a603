<?php

declare(strict_types=1);

namespace Symfony\Component\DependencyInjection\Loader\Configurator;

use Snoke\WsBundle\Test\InMemoryPresence;
use Snoke\WsBundle\Test\InMemoryTransport;

return static function (ContainerConfigurator $container): void {
    // Tests take them from the container by their classes.
    $container->services()
        ->set('snoke_ws.transport.in_memory', InMemoryTransport::class)
            ->tag('kernel.reset', ['method' => 'reset'])
        ->alias(InMemoryTransport::class, 'snoke_ws.transport.in_memory')
            ->public()
        ->set('snoke_ws.presence.in_memory', InMemoryPresence::class)
        ->alias(InMemoryPresence::class, 'snoke_ws.presence.in_memory')
            ->public()
    ;
};
