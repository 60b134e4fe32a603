<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\App;

use Psr\Log\NullLogger;
use Snoke\WsBundle\SnokeWsBundle;
use Symfony\Bundle\FrameworkBundle\FrameworkBundle;
use Symfony\Bundle\SecurityBundle\SecurityBundle;
use Symfony\Bundle\TwigBundle\TwigBundle;
use Symfony\Bundle\WebProfilerBundle\WebProfilerBundle;
use Symfony\Component\Config\Loader\LoaderInterface;
use Symfony\Component\DependencyInjection\Compiler\CompilerPassInterface;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\Filesystem\Filesystem;
use Symfony\Component\HttpKernel\Kernel;

/**
 * An application with the bundle, and all that it can make use of.
 */
final class TestKernel extends Kernel implements CompilerPassInterface
{
    private readonly string $directory;

    /**
     * @param array<string, mixed> $settings below `snoke_ws`
     * @param list<string>         $public   services that the test takes out
     */
    public function __construct(
        private readonly array $settings,
        private readonly array $public = [],
        string $environment = 'test',
    ) {
        $this->directory = sys_get_temp_dir() . '/wsgw-bundle-' . bin2hex(random_bytes(6));
        parent::__construct($environment, true);
    }

    public function registerBundles(): iterable
    {
        return [new FrameworkBundle(), new SecurityBundle(), new TwigBundle(), new WebProfilerBundle(), new SnokeWsBundle()];
    }

    public function registerContainerConfiguration(LoaderInterface $loader): void
    {
        $loader->load(function (ContainerBuilder $container): void {
            $container->loadFromExtension('framework', [
                'secret' => 'test',
                'test' => 'test' === $this->environment,
                'http_method_override' => false,
                'router' => ['resource' => __DIR__ . '/routes.php', 'utf8' => true],
                'profiler' => ['collect' => true],
                'messenger' => ['enabled' => true],
                'http_client' => ['enabled' => true],
            ]);
            $container->loadFromExtension('security', [
                'providers' => ['users' => ['memory' => ['users' => ['alice' => ['roles' => ['ROLE_USER']]]]]],
                'firewalls' => ['main' => ['stateless' => true]],
            ] + (Kernel::VERSION_ID < 60000 ? ['enable_authenticator_manager' => true] : []));
            $container->loadFromExtension('web_profiler', ['toolbar' => false]);
            $container->loadFromExtension('snoke_ws', $this->settings);
            // Nothing to standard error.
            $container->register('logger', NullLogger::class);
        });
    }

    public function process(ContainerBuilder $container): void
    {
        foreach ($this->public as $id) {
            $container->hasAlias($id) ? $container->getAlias($id)->setPublic(true) : $container->getDefinition($id)->setPublic(true);
        }
    }

    public function getProjectDir(): string
    {
        return __DIR__;
    }

    public function getCacheDir(): string
    {
        return $this->directory . '/cache';
    }

    public function getLogDir(): string
    {
        return $this->directory . '/log';
    }

    public function remove(): void
    {
        $this->shutdown();
        (new Filesystem())->remove($this->directory);
    }
}
