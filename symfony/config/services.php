<?php

declare(strict_types=1);

namespace Symfony\Component\DependencyInjection\Loader\Configurator;

use App\Controller\ChatController;
use App\Controller\PingController;
use App\Inbox\MessageInbox;
use App\Inbox\MessageInboxFactory;
use App\Security\DemoKey;
use App\Security\DemoKeyListener;
use Psr\Cache\CacheItemPoolInterface;

return static function (ContainerConfigurator $container): void {
    $services = $container->services()->defaults()->autowire()->autoconfigure();

    $services->load('App\\', '../src/')->exclude(['../src/Kernel.php', '../src/Inbox/*MessageInbox*.php']);
    $services->load('App\\Controller\\', '../src/Controller/')->tag('controller.service_arguments');

    $services->set(DemoKey::class)->arg('$key', '%env(DEMO_API_KEY)%');
    $services->set(DemoKeyListener::class)->tag('kernel.event_listener', ['event' => 'kernel.request', 'priority' => 8]);

    $services->set(MessageInbox::class)
        ->factory([MessageInboxFactory::class, 'create'])
        ->args([
            '%env(DEMO_INBOX_REDIS_DSN)%',
            '%env(DEMO_INBOX_REDIS_STREAM)%',
            '%snoke_ws.events.redis_stream.inbox_stream%',
            service(CacheItemPoolInterface::class),
        ]);

    $services->set(ChatController::class)->arg('$publicUrl', '%snoke_ws.public_url%')->tag('controller.service_arguments');

    $services->set(PingController::class)
        ->args([
            '%snoke_ws.mode%',
            '%snoke_ws.transport.type%',
            '%snoke_ws.presence.type%',
            '%snoke_ws.events.type%',
        ])
        ->tag('controller.service_arguments');
};
