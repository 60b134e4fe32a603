<?php

declare(strict_types=1);

namespace Symfony\Component\DependencyInjection\Loader\Configurator;

use Snoke\WsBundle\Messenger\WsPush;
use Snoke\WsBundle\Messenger\WsPushHandler;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;
use Symfony\Component\Messenger\MessageBusInterface;

return static function (ContainerConfigurator $container): void {
    if (!interface_exists(MessageBusInterface::class)) {
        return;
    }
    $container->services()
        ->set('snoke_ws.messenger.push_handler', WsPushHandler::class)
            ->args([service(WebsocketPublisherInterface::class)])
            ->tag('messenger.message_handler', ['handles' => WsPush::class])
    ;
};
