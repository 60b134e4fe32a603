<?php

// Runs commands of the receiving application: APP_SETTINGS is JSON below `snoke_ws`, APP_DIRECTORY is where it writes.

declare(strict_types=1);

use Snoke\WsBundle\Tests\Integration\App\ReceivingKernel;
use Symfony\Bundle\FrameworkBundle\Console\Application;

require \dirname(__DIR__, 3) . '/vendor/autoload.php';

$application = new Application(new ReceivingKernel(
    json_decode((string) getenv('APP_SETTINGS'), true, 512, \JSON_THROW_ON_ERROR),
    json_decode(getenv('APP_FRAMEWORK') ?: '[]', true, 512, \JSON_THROW_ON_ERROR),
    [],
    (string) getenv('APP_DIRECTORY'),
));
$application->run();
