#!/usr/bin/env php
<?php

// Reads what clients send from the inbox alone, so that /api/ws/last-message has it: `ws:consume` with one stream.
//
//     php bin/ws_inbox_consumer.php [options of ws:consume]
//
// Connects and disconnects, which come by another stream, are left to a ws:consume of its own.

declare(strict_types=1);

use App\Kernel;
use Symfony\Bundle\FrameworkBundle\Console\Application;
use Symfony\Component\Console\Input\ArgvInput;
use Symfony\Component\Dotenv\Dotenv;

require dirname(__DIR__) . '/vendor/autoload.php';

(new Dotenv())->bootEnv(dirname(__DIR__) . '/.env');

$kernel = new Kernel($_SERVER['APP_ENV'], (bool) $_SERVER['APP_DEBUG']);
$queue = 'rabbitmq' === ($_SERVER['WS_EVENTS_TYPE'] ?? '') ? 'WS_RABBITMQ_INBOX_QUEUE' : 'WS_REDIS_INBOX_STREAM';
$arguments = array_slice($_SERVER['argv'], 1);
if (!preg_grep('/^--stream\b/', $arguments)) {
    array_unshift($arguments, '--stream=' . $_SERVER[$queue]);
}

$application = new Application($kernel);
$application->run(new ArgvInput([$_SERVER['argv'][0], 'ws:consume', ...$arguments]));
