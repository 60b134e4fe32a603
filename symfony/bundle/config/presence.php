<?php

declare(strict_types=1);

namespace Symfony\Component\DependencyInjection\Loader\Configurator;

use Snoke\WsBundle\Presence\PresenceInterpreter;
use Snoke\WsBundle\Presence\PresenceInterpreterInterface;
use Snoke\WsBundle\Presence\PresenceProvider;
use Snoke\WsBundle\Presence\PresenceProviderInterface;
use Snoke\WsBundle\Presence\Store\HttpPresenceStore;
use Snoke\WsBundle\Presence\Store\PresenceStoreFactory;
use Snoke\WsBundle\Presence\Store\PresenceStoreInterface;
use Snoke\WsBundle\Presence\Store\RedisPresenceStore;
use Snoke\WsBundle\Presence\Writer\PresenceListener;
use Snoke\WsBundle\Presence\Writer\PresenceWriterFactory;
use Snoke\WsBundle\Presence\Writer\PresenceWriterInterface;
use Snoke\WsBundle\Presence\Writer\RedisPresenceWriter;
use Snoke\WsBundle\Redis\RedisClientFactory;
use Snoke\WsBundle\Redis\RedisClientInterface;
use Snoke\WsBundle\User\UserIdResolverInterface;

return static function (ContainerConfigurator $container): void {
    $presence = '%snoke_ws.presence.';

    $container->services()
        ->set('snoke_ws.presence.http', HttpPresenceStore::class)
            ->args([
                service('http_client')->nullOnInvalid(),
                $presence . 'http.base_url%',
                $presence . 'http.api_key%',
                $presence . 'http.timeout_seconds%',
            ])

        ->set('snoke_ws.presence.redis.client', RedisClientInterface::class)
            ->factory([RedisClientFactory::class, 'create'])
            ->args([$presence . 'redis.dsn%', 'presence.redis.dsn'])
        ->set('snoke_ws.presence.redis', RedisPresenceStore::class)
            ->args([service('snoke_ws.presence.redis.client'), $presence . 'redis.prefix%'])

        ->set('snoke_ws.presence.store', PresenceStoreInterface::class)
            ->factory([PresenceStoreFactory::class, 'create'])
            ->args(['%snoke_ws.mode%', $presence . 'type%', [
                'http' => service_closure('snoke_ws.presence.http'),
                'redis' => service_closure('snoke_ws.presence.redis'),
                'in_memory' => service_closure('snoke_ws.presence.in_memory'),
            ]])
        ->alias(PresenceStoreInterface::class, 'snoke_ws.presence.store')

        ->set('snoke_ws.presence.interpreter', PresenceInterpreter::class)
            ->args([
                $presence . 'interpretation.strategy%',
                $presence . 'interpretation.ttl_seconds%',
                $presence . 'interpretation.heartbeat_seconds%',
                $presence . 'interpretation.grace_seconds%',
                $presence . 'interpretation.use_last_seen%',
            ])
        ->alias(PresenceInterpreterInterface::class, 'snoke_ws.presence.interpreter')

        ->set('snoke_ws.presence.provider', PresenceProvider::class)
            ->args([
                service(PresenceStoreInterface::class),
                service(PresenceInterpreterInterface::class),
                service(UserIdResolverInterface::class),
            ])
        ->alias(PresenceProviderInterface::class, 'snoke_ws.presence.provider')

        ->set('snoke_ws.presence.writer.redis', RedisPresenceWriter::class)
            ->args([
                service('snoke_ws.presence.redis.client'),
                $presence . 'redis.prefix%',
                $presence . 'writer.ttl_seconds%',
            ])
        ->set('snoke_ws.presence.writer', PresenceWriterInterface::class)
            ->factory([PresenceWriterFactory::class, 'create'])
            ->args([$presence . 'writer.type%', service_closure('snoke_ws.presence.writer.redis')])
        ->alias(PresenceWriterInterface::class, 'snoke_ws.presence.writer')

        ->set('snoke_ws.presence.listener', PresenceListener::class)
            ->args([
                service(PresenceWriterInterface::class),
                $presence . 'writer.refresh_on_message%',
                service('logger')->nullOnInvalid(),
            ])
            ->tag('kernel.event_subscriber')
            ->tag('monolog.logger', ['channel' => 'snoke_ws'])
    ;
};
