<?php

declare(strict_types=1);

namespace Symfony\Component\DependencyInjection\Loader\Configurator;

use Snoke\WsBundle\Tracing\NullTraceContext;
use Snoke\WsBundle\Tracing\TraceContextInterface;

return static function (ContainerConfigurator $container): void {
    $container->services()
        ->set('snoke_ws.trace_context.null', NullTraceContext::class)
        ->alias(TraceContextInterface::class, 'snoke_ws.trace_context.null')
    ;
};
