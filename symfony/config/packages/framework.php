<?php

declare(strict_types=1);

use Symfony\Component\DependencyInjection\Loader\Configurator\ContainerConfigurator;

return static function (ContainerConfigurator $container): void {
    $container->extension('framework', [
        'secret' => '%env(APP_SECRET)%',
        'http_method_override' => false,
        'router' => ['utf8' => true],
        'php_errors' => ['log' => true],
        'session' => [
            'storage_factory_id' => 'session.storage.factory.native',
            'handler_id' => null,
            'save_path' => '%kernel.cache_dir%/sessions',
            'cookie_secure' => 'auto',
            'cookie_samesite' => 'strict',
            'cookie_httponly' => true,
        ],
    ]);
};
