<?php

declare(strict_types=1);

namespace Symfony\Component\DependencyInjection\Loader\Configurator;

use Snoke\WsBundle\Event\EventFactoryInterface;
use Snoke\WsBundle\Event\WebsocketEvent;
use Snoke\WsBundle\Messenger\EventMessageHandler;
use Snoke\WsBundle\Messenger\EventSerializer;
use Snoke\WsBundle\Messenger\EventTransportFactory;
use Snoke\WsBundle\Messenger\UnreadableEvent;
use Symfony\Component\Messenger\MessageBusInterface;

return static function (ContainerConfigurator $container): void {
    if (!interface_exists(MessageBusInterface::class)) {
        return;
    }
    $container->services()
        ->set('snoke_ws.messenger.event_serializer', EventSerializer::class)
            ->args([service(EventFactoryInterface::class), service('logger')])
            ->tag('monolog.logger', ['channel' => 'snoke_ws'])
        ->alias(EventSerializer::class, 'snoke_ws.messenger.event_serializer')

        ->set('snoke_ws.messenger.event_handler', EventMessageHandler::class)
            ->args([service('snoke_ws.event_receiver.consumer')])
            ->tag('messenger.message_handler', ['handles' => WebsocketEvent::class, 'method' => 'event'])
            ->tag('messenger.message_handler', ['handles' => UnreadableEvent::class, 'method' => 'unreadable'])

        ->set('snoke_ws.messenger.event_transport_factory', EventTransportFactory::class)
            ->args([service('snoke_ws.source_factory'), service(EventFactoryInterface::class), service('logger')])
            ->tag('messenger.transport_factory')
            ->tag('monolog.logger', ['channel' => 'snoke_ws'])
    ;
};
