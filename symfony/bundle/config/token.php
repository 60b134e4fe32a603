<?php

declare(strict_types=1);

namespace Symfony\Component\DependencyInjection\Loader\Configurator;

use Snoke\WsBundle\Token\CookieFactory;
use Snoke\WsBundle\Token\TokenFactory;
use Snoke\WsBundle\Token\TokenFactoryInterface;
use Snoke\WsBundle\User\UserIdResolverInterface;

return static function (ContainerConfigurator $container): void {
    $token = '%snoke_ws.token.';

    $container->services()
        ->set('snoke_ws.token_factory', TokenFactory::class)
            ->args([
                $token . 'algorithm%',
                $token . 'key%',
                $token . 'key_file%',
                $token . 'passphrase%',
                $token . 'key_id%',
                $token . 'ttl_seconds%',
                $token . 'user_id_claim%',
                $token . 'issuer%',
                $token . 'audience%',
                $token . 'claims%',
                service(UserIdResolverInterface::class),
            ])
        ->alias(TokenFactoryInterface::class, 'snoke_ws.token_factory')

        ->set('snoke_ws.cookie_factory', CookieFactory::class)
            ->args([
                $token . 'cookie.name%',
                $token . 'cookie.path%',
                $token . 'cookie.domain%',
                $token . 'cookie.secure%',
                $token . 'cookie.same_site%',
                '%snoke_ws.public_url%',
            ])
        ->alias(CookieFactory::class, 'snoke_ws.cookie_factory')
    ;
};
