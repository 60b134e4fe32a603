<?php

// The front controller of the receiving application, see console.php.

declare(strict_types=1);

use Snoke\WsBundle\Tests\Integration\App\ReceivingKernel;
use Symfony\Component\HttpFoundation\Request;

require \dirname(__DIR__, 3) . '/vendor/autoload.php';

$kernel = new ReceivingKernel(
    json_decode((string) getenv('APP_SETTINGS'), true, 512, \JSON_THROW_ON_ERROR),
    [],
    [],
    (string) getenv('APP_DIRECTORY'),
);
$request = Request::createFromGlobals();
$response = $kernel->handle($request);
$response->send();
$kernel->terminate($request, $response);
