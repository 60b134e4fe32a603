<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration\App;

use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;
use Snoke\WsBundle\SnokeWsBundle;
use Symfony\Bundle\FrameworkBundle\FrameworkBundle;
use Symfony\Bundle\FrameworkBundle\Kernel\MicroKernelTrait;
use Symfony\Component\Config\Loader\LoaderInterface;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\DependencyInjection\Reference;
use Symfony\Component\HttpKernel\Kernel;
use Symfony\Component\Routing\Loader\Configurator\RoutingConfigurator;

/**
 * A small application that writes down the events it gets.
 */
final class ReceivingKernel extends Kernel
{
    use MicroKernelTrait;

    /**
     * @param array<string, mixed>      $config    below `snoke_ws`
     * @param array<string, mixed>      $framework below `framework`
     * @param array<class-string, bool> $services  classes of services, and whether they are public
     * @param array<string, string>     $aliases   interfaces, and what stands for them
     */
    public function __construct(
        private readonly array $config,
        private readonly array $framework = [],
        private readonly array $services = [],
        private readonly ?string $directory = null,
        private readonly array $aliases = [],
    ) {
        parent::__construct('test', false);
    }

    public function registerBundles(): iterable
    {
        return [new FrameworkBundle(), new SnokeWsBundle()];
    }

    public function getCacheDir(): string
    {
        return $this->directory() . '/cache';
    }

    public function getLogDir(): string
    {
        return $this->directory() . '/log';
    }

    public function getProjectDir(): string
    {
        return \dirname(__DIR__, 3);
    }

    public function registerContainerConfiguration(LoaderInterface $loader): void
    {
        $loader->load(function (ContainerBuilder $container): void {
            $container->loadFromExtension('framework', $this->framework + [
                'secret' => 'test',
                'test' => true,
                'http_method_override' => false,
                'router' => ['resource' => 'kernel::loadRoutes', 'type' => 'service', 'utf8' => true],
                'cache' => ['directory' => $this->directory() . '/pools'],
            ]);
            $container->loadFromExtension('snoke_ws', $this->config);
            $container->register('kernel', self::class)
                ->setSynthetic(true)
                ->setPublic(true)
                ->addTag('controller.service_arguments')
                ->addTag('routing.route_loader');
            $container->register('logger', RecordingLogger::class)->setPublic(true);
            $container->register(EventRecorder::class)->setPublic(true)->setAutoconfigured(true)
                ->setArguments([$this->directory() . '/events', new Reference(WebsocketPublisherInterface::class)]);
            foreach ($this->services as $class => $isPublic) {
                $container->register($class)->setPublic($isPublic)->setAutoconfigured(true)->setAutowired(true);
            }
            foreach ($this->aliases as $interface => $id) {
                $container->setAlias($interface, $id);
            }
        });
    }

    protected function configureRoutes(RoutingConfigurator $routes): void
    {
        $routes->import(\dirname(__DIR__, 3) . '/config/routes.php');
    }

    private function directory(): string
    {
        return $this->directory ?? sys_get_temp_dir() . '/snoke-ws-bundle/' . getmypid() . '-' . spl_object_id($this);
    }
}
