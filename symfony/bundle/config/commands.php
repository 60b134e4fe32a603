<?php

declare(strict_types=1);

namespace Symfony\Component\DependencyInjection\Loader\Configurator;

use Snoke\WsBundle\Client\GatewayClient;
use Snoke\WsBundle\Command\CheckCommand;
use Snoke\WsBundle\Command\ConnectionsCommand;
use Snoke\WsBundle\Command\PingCommand;
use Snoke\WsBundle\Command\PingEventHandler;
use Snoke\WsBundle\Command\PublishCommand;
use Snoke\WsBundle\Handler\MessageHandlerPass;
use Snoke\WsBundle\Presence\PresenceProviderInterface;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;
use Snoke\WsBundle\Token\TokenFactoryInterface;
use Symfony\Component\Console\Command\Command;

return static function (ContainerConfigurator $container): void {
    $services = $container->services();
    $services
        ->set('snoke_ws.ping_event_handler', PingEventHandler::class)
            ->args([service(WebsocketPublisherInterface::class)])
            ->tag(MessageHandlerPass::TAG, ['type' => PingEventHandler::TYPE])
    ;
    if (!class_exists(Command::class)) {
        return;
    }
    // Closures: what cannot be made, since a setting is wrong, is for the command to tell.
    $services
        ->set('snoke_ws.gateway_client', GatewayClient::class)
            ->args([
                service('http_client')->nullOnInvalid(),
                param('snoke_ws.transport.http.base_url'),
                param('snoke_ws.transport.http.api_key'),
                param('snoke_ws.transport.http.timeout_seconds'),
            ])

        ->set('snoke_ws.command.ping', PingCommand::class)
            ->args([
                service_closure(TokenFactoryInterface::class),
                service_closure(WebsocketPublisherInterface::class),
                param('snoke_ws.mode'),
                param('snoke_ws.public_url'),
                param('snoke_ws.transport.type'),
                param('snoke_ws.events.type'),
            ])
            ->tag('console.command')

        ->set('snoke_ws.command.publish', PublishCommand::class)
            ->args([service_closure(WebsocketPublisherInterface::class), param('snoke_ws.subjects.user_prefix')])
            ->tag('console.command')

        ->set('snoke_ws.command.connections', ConnectionsCommand::class)
            ->args([service_closure(PresenceProviderInterface::class), service('snoke_ws.gateway_client')])
            ->tag('console.command')

        ->set('snoke_ws.command.check', CheckCommand::class)
            ->args([
                [
                    'mode' => param('snoke_ws.mode'),
                    'public_url' => param('snoke_ws.public_url'),
                    'user_prefix' => param('snoke_ws.subjects.user_prefix'),
                    'transport_type' => param('snoke_ws.transport.type'),
                    'presence_type' => param('snoke_ws.presence.type'),
                    'events_type' => param('snoke_ws.events.type'),
                    'redis_dsns' => [
                        'transport.redis_stream.dsn' => param('snoke_ws.transport.redis_stream.dsn'),
                        'events.redis_stream.dsn' => param('snoke_ws.events.redis_stream.dsn'),
                    ],
                    'rabbitmq_dsns' => [
                        'transport.rabbitmq.dsn' => param('snoke_ws.transport.rabbitmq.dsn'),
                        'events.rabbitmq.dsn' => param('snoke_ws.events.rabbitmq.dsn'),
                    ],
                    'token_algorithm' => param('snoke_ws.token.algorithm'),
                    'api_key' => param('snoke_ws.transport.http.api_key'),
                    'webhook_enabled' => param('snoke_ws.events.webhook.enabled'),
                    'webhook_path' => param('snoke_ws.events.webhook.path'),
                    'webhook_secret' => param('snoke_ws.events.webhook.secret'),
                    'webhook_allow_unsigned' => param('snoke_ws.events.webhook.allow_unsigned'),
                    'webhook_tolerance' => param('snoke_ws.events.webhook.tolerance_seconds'),
                ],
                service_closure(TokenFactoryInterface::class),
                service_closure(PresenceProviderInterface::class),
                service('snoke_ws.gateway_client'),
                service('router')->nullOnInvalid(),
                param('kernel.project_dir'),
            ])
            ->tag('console.command')
    ;
};
