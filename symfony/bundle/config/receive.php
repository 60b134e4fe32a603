<?php

declare(strict_types=1);

namespace Symfony\Component\DependencyInjection\Loader\Configurator;

use Snoke\WsBundle\Dedupe\CacheEventDeduplicator;
use Snoke\WsBundle\Dedupe\EventDeduplicatorInterface;
use Snoke\WsBundle\Dedupe\NullEventDeduplicator;
use Snoke\WsBundle\Event\EventFactory;
use Snoke\WsBundle\Event\EventFactoryInterface;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Snoke\WsBundle\Handler\EventReceiver;
use Snoke\WsBundle\Handler\EventReceiverInterface;
use Snoke\WsBundle\Handler\MessageHandlerPass;
use Snoke\WsBundle\Handler\MessageRouter;
use Snoke\WsBundle\RemoteEvent\WsRemoteEventConsumer;
use Snoke\WsBundle\RemoteEvent\WsRequestParser;
use Snoke\WsBundle\Tracing\TracerInterface;
use Snoke\WsBundle\Webhook\SignatureVerifier;
use Snoke\WsBundle\Webhook\SignatureVerifierInterface;
use Snoke\WsBundle\Webhook\WebhookController;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\Lock\LockFactory;
use Symfony\Component\RemoteEvent\Consumer\ConsumerInterface;
use Symfony\Component\Webhook\Client\AbstractRequestParser;

return static function (ContainerConfigurator $container, ContainerBuilder $builder): void {
    $services = $container->services();
    $logger = service('logger');
    // Brokers repeat themselves less than HTTP does, so that consumers ask a cache only where one is made for it.
    $pool = $builder->getParameter('snoke_ws.dedupe.cache');
    $services
        ->set('snoke_ws.event_factory', EventFactory::class)
            ->args([param('snoke_ws.tracing.trace_id_field'), param('snoke_ws.tracing.traceparent_field')])
        ->alias(EventFactoryInterface::class, 'snoke_ws.event_factory')

        ->set('snoke_ws.deduplicator.null', NullEventDeduplicator::class)
        ->set('snoke_ws.deduplicator.cache', CacheEventDeduplicator::class)
            ->args([
                service(\is_string($pool) ? $pool : 'cache.app')->nullOnInvalid(),
                param('snoke_ws.dedupe.ttl_seconds'),
                param('snoke_ws.dedupe.enabled'),
                $logger,
            ])
            ->tag('monolog.logger', ['channel' => 'snoke_ws'])
        ->alias(EventDeduplicatorInterface::class, 'snoke_ws.deduplicator.cache')
        ->alias(
            'snoke_ws.deduplicator.consumer',
            null === $pool ? 'snoke_ws.deduplicator.null' : EventDeduplicatorInterface::class,
        )

        ->set(MessageHandlerPass::ROUTER, MessageRouter::class)
            ->arg('$handlers', [])
            ->arg('$services', service_locator([]))
            ->arg('$denormalizer', service('serializer')->nullOnInvalid())
            ->tag('kernel.event_listener', ['event' => WebsocketMessageReceivedEvent::class])

        ->set('snoke_ws.event_receiver.webhook', EventReceiver::class)
            ->args([
                service('event_dispatcher'),
                service(EventDeduplicatorInterface::class),
                service(TracerInterface::class),
                $logger,
                service(LockFactory::class)->nullOnInvalid(),
                service('snoke_ws.tracing.user_names'),
            ])
            ->tag('monolog.logger', ['channel' => 'snoke_ws'])
        ->set('snoke_ws.event_receiver.consumer', EventReceiver::class)
            ->args([
                service('event_dispatcher'),
                service('snoke_ws.deduplicator.consumer'),
                service(TracerInterface::class),
                $logger,
                null,
                service('snoke_ws.tracing.user_names'),
            ])
            ->tag('monolog.logger', ['channel' => 'snoke_ws'])
        ->alias(EventReceiverInterface::class, 'snoke_ws.event_receiver.webhook')

        ->set('snoke_ws.webhook.signature_verifier', SignatureVerifier::class)
            ->args([
                param('snoke_ws.events.webhook.secret'),
                param('snoke_ws.events.webhook.tolerance_seconds'),
                param('snoke_ws.events.webhook.allow_unsigned'),
                param('snoke_ws.events.webhook.signature'),
            ])
        ->alias(SignatureVerifierInterface::class, 'snoke_ws.webhook.signature_verifier')

        ->set('snoke_ws.webhook.controller', WebhookController::class)
            ->args([
                service(SignatureVerifierInterface::class),
                service(EventFactoryInterface::class),
                service('snoke_ws.event_receiver.webhook'),
                $logger,
                param('snoke_ws.events.webhook.max_body_bytes'),
                param('snoke_ws.events.webhook.enabled'),
                service(TracerInterface::class),
            ])
            ->public()
            ->tag('controller.service_arguments')
            ->tag('monolog.logger', ['channel' => 'snoke_ws'])
    ;
    if (class_exists(AbstractRequestParser::class)) {
        $services
            ->set('snoke_ws.webhook.request_parser', WsRequestParser::class)
                ->args([
                    service(SignatureVerifierInterface::class),
                    service(EventFactoryInterface::class),
                    param('snoke_ws.events.webhook.max_body_bytes'),
                ])
        ;
    }
    if (interface_exists(ConsumerInterface::class)) {
        $services
            ->set('snoke_ws.remote_event_consumer', WsRemoteEventConsumer::class)
                ->args([
                    service(EventFactoryInterface::class),
                    service('snoke_ws.event_receiver.webhook'),
                    $logger,
                ])
                ->tag('remote_event.consumer', ['consumer' => 'wsgw'])
                ->tag('monolog.logger', ['channel' => 'snoke_ws'])
        ;
    }
};
