<?php

declare(strict_types=1);

namespace Snoke\WsBundle;

use Snoke\WsBundle\Handler\MessageHandlerPass;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\HttpKernel\Bundle\Bundle;

/**
 * Connects a Symfony application with the wsgw WebSocket gateway.
 */
final class SnokeWsBundle extends Bundle
{
    public function build(ContainerBuilder $container): void
    {
        parent::build($container);
        MessageHandlerPass::registerAttribute($container);
        $container->addCompilerPass(new MessageHandlerPass());
    }

    public function getPath(): string
    {
        return \dirname(__DIR__);
    }
}
