<?php

declare(strict_types=1);

namespace Symfony\Component\DependencyInjection\Loader\Configurator;

use Snoke\WsBundle\Tracing\TraceContextInterface;
use Snoke\WsBundle\Tracing\TracerFactory;
use Snoke\WsBundle\Tracing\TracerInterface;
use Snoke\WsBundle\Tracing\UserNames;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\Messenger\Event\WorkerRunningEvent;

return static function (ContainerConfigurator $container, ContainerBuilder $builder): void {
    $factory = $container->services()
        ->set('snoke_ws.tracer_factory', TracerFactory::class)
            ->args([
                param('snoke_ws.tracing.enabled'),
                param('snoke_ws.tracing.exporter'),
                param('snoke_ws.tracing.endpoint'),
                param('snoke_ws.tracing.service_name'),
                param('snoke_ws.tracing.sample_rate'),
                param('snoke_ws.tracing.headers'),
                service('logger'),
                service_closure('cache.app')->nullOnInvalid(),
            ])
            ->tag('monolog.logger', ['channel' => 'snoke_ws'])
            // After everything else, so that nobody waits for the collector.
            ->tag('kernel.event_listener', ['event' => 'kernel.terminate', 'method' => 'terminate', 'priority' => -2048])
            ->tag('kernel.event_listener', ['event' => 'console.terminate', 'method' => 'flush', 'priority' => -2048])
    ;
    if (false !== $builder->getParameter('snoke_ws.tracing.enabled')) {
        // Before everything that may push.
        $factory->tag('kernel.event_listener', ['event' => 'kernel.request', 'method' => 'begin', 'priority' => 2048]);
    }
    if (class_exists(WorkerRunningEvent::class)) {
        $factory->tag('kernel.event_listener', ['event' => WorkerRunningEvent::class, 'method' => 'tick']);
    }
    $container->services()
        ->set('snoke_ws.tracing.user_names', UserNames::class)
            ->args([
                param('snoke_ws.tracing.hash_user_ids'),
                param('snoke_ws.tracing.user_hash_key'),
                param('snoke_ws.transport.http.api_key'),
            ])
        ->set('snoke_ws.tracer', TracerInterface::class)
            ->factory([service('snoke_ws.tracer_factory'), 'create'])
        ->alias(TracerInterface::class, 'snoke_ws.tracer')
        ->alias(TraceContextInterface::class, 'snoke_ws.tracer')
    ;
};
