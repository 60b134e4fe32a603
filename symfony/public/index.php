<?php

declare(strict_types=1);

use App\Kernel;
use Symfony\Component\Dotenv\Dotenv;
use Symfony\Component\ErrorHandler\Debug;
use Symfony\Component\HttpFoundation\Request;

// PHP's own server asks for files here as well: php -S localhost:8080 -t public public/index.php
if ('cli-server' === \PHP_SAPI && is_file(__DIR__ . parse_url((string) $_SERVER['REQUEST_URI'], \PHP_URL_PATH))) {
    return false;
}

require \dirname(__DIR__) . '/vendor/autoload.php';

// PHP's own server has the environment in getenv() alone, where Dotenv does not look before it sets a default.
$_ENV += getenv();
(new Dotenv())->bootEnv(\dirname(__DIR__) . '/.env');
$_SERVER['APP_DEBUG'] && Debug::enable();

$kernel = new Kernel($_SERVER['APP_ENV'], (bool) $_SERVER['APP_DEBUG']);
$request = Request::createFromGlobals();
$response = $kernel->handle($request);
$response->send();
$kernel->terminate($request, $response);
