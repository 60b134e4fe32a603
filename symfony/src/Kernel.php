<?php

declare(strict_types=1);

namespace App;

use Symfony\Bundle\FrameworkBundle\Kernel\MicroKernelTrait;
use Symfony\Component\DependencyInjection\Loader\Configurator\ContainerConfigurator;
use Symfony\Component\HttpKernel\Kernel as BaseKernel;
use Symfony\Component\Routing\Loader\Configurator\RoutingConfigurator;

final class Kernel extends BaseKernel
{
    use MicroKernelTrait;

    public function getCacheDir(): string
    {
        return $this->variableDir() . '/cache/' . $this->getEnvironment();
    }

    public function getLogDir(): string
    {
        return $this->variableDir() . '/log';
    }

    private function configureContainer(ContainerConfigurator $container): void
    {
        $container->import('../config/packages/*.php');
        $container->import('../config/packages/*.yaml');
        $container->import('../config/services.php');
    }

    private function configureRoutes(RoutingConfigurator $routes): void
    {
        $routes->import('../config/routes.php');
    }

    /**
     * Where the application writes: APP_VAR_DIR for a container whose file system is read only.
     */
    private function variableDir(): string
    {
        $directory = $_SERVER['APP_VAR_DIR'] ?? null;

        return \is_string($directory) && '' !== $directory ? $directory : $this->getProjectDir() . '/var';
    }
}
