<?php

declare(strict_types=1);

namespace Symfony\Component\DependencyInjection\Loader\Configurator;

use Snoke\WsBundle\Token\TokenFactoryInterface;
use Snoke\WsBundle\Twig\WsExtension;
use Snoke\WsBundle\Twig\WsRuntime;
use Twig\Extension\AbstractExtension;

return static function (ContainerConfigurator $container): void {
    if (!class_exists(AbstractExtension::class)) {
        return;
    }
    $container->services()
        ->set('snoke_ws.twig.extension', WsExtension::class)
            ->tag('twig.extension')
        ->set('snoke_ws.twig.runtime', WsRuntime::class)
            ->args([
                service(TokenFactoryInterface::class),
                '%snoke_ws.public_url%',
                service('security.token_storage')->nullOnInvalid(),
            ])
            ->tag('twig.runtime')
    ;
};
