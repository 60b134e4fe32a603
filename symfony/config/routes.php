<?php

declare(strict_types=1);

use App\Controller\ChatController;
use App\Controller\LastMessageController;
use App\Controller\OnlineController;
use App\Controller\PingController;
use App\Controller\PushDemoController;
use App\Security\DemoKeyListener;
use Symfony\Component\Routing\Loader\Configurator\RoutingConfigurator;

return static function (RoutingConfigurator $routes): void {
    $needsKey = [DemoKeyListener::ATTRIBUTE => true];
    $routes->import('@SnokeWsBundle/config/routes.php');

    $routes->add('api_ping', '/api/ping')->controller(PingController::class)->methods(['GET']);
    $routes->add('api_push_demo', '/api/push-demo/{userId}')->controller(PushDemoController::class)->methods(['POST'])
        ->defaults($needsKey);
    $routes->add('api_online', '/api/online')->controller(OnlineController::class)->methods(['GET'])
        ->defaults($needsKey);
    $routes->add('api_last_message', '/api/ws/last-message')->controller(LastMessageController::class)->methods(['GET'])
        ->defaults($needsKey);

    $routes->add('chat_sign_in', '/demo/chat')->controller([ChatController::class, 'signIn'])->methods(['GET', 'POST']);
    $routes->add('chat', '/demo/chat/{user}')->controller([ChatController::class, 'page'])->methods(['GET']);
    $routes->add('chat_token', '/demo/chat/{user}/token')->controller([ChatController::class, 'token'])->methods(['POST']);
};
