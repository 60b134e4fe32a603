<?php

declare(strict_types=1);

use Symfony\Component\DependencyInjection\Loader\Configurator\ContainerConfigurator;

return static function (ContainerConfigurator $container): void {
    $container->extension('twig', ['strict_variables' => true, 'default_path' => '%kernel.project_dir%/templates']);
};
