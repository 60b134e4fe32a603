<?php

declare(strict_types=1);

namespace Symfony\Component\DependencyInjection\Loader\Configurator;

use Snoke\WsBundle\DataCollector\EventRecorder;
use Snoke\WsBundle\DataCollector\TraceablePublisher;
use Snoke\WsBundle\DataCollector\WsDataCollector;
use Symfony\Bundle\WebProfilerBundle\WebProfilerBundle;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\VarDumper\Cloner\VarCloner;

return static function (ContainerConfigurator $container, ContainerBuilder $builder): void {
    $bundles = $builder->hasParameter('kernel.bundles') ? $builder->getParameter('kernel.bundles') : [];
    if (
        !\is_array($bundles)
        || !\in_array(WebProfilerBundle::class, $bundles, true)
        || !$builder->hasParameter('kernel.debug')
        || !$builder->getParameter('kernel.debug')
    ) {
        return;
    }
    $container->services()
        ->set('snoke_ws.profiler.publisher', TraceablePublisher::class)
            ->decorate('snoke_ws.publisher')
            ->args([service('.inner')])
            ->tag('kernel.reset', ['method' => 'reset'])
        ->set('snoke_ws.profiler.events', EventRecorder::class)
            ->tag('kernel.event_subscriber')
            ->tag('kernel.reset', ['method' => 'reset'])
        ->set('snoke_ws.profiler.collector', WsDataCollector::class)
            ->args([
                service('snoke_ws.profiler.publisher'),
                service('snoke_ws.profiler.events'),
                class_exists(VarCloner::class) && 'dev' === $builder->getParameter('kernel.environment'),
            ])
            ->tag('data_collector', ['id' => WsDataCollector::NAME, 'template' => '@SnokeWs/Collector/ws.html.twig', 'priority' => 200])
    ;
};
