<?php

// Runs a stack for tests that are not PHP: stack.php KIND, with further variables as JSON in STACK_ENV. Prints what its
// clients need as a line of JSON, then, whenever it reads a line, what its parts have printed; ends with its input.

declare(strict_types=1);

use App\Tests\Support\Stack;

require \dirname(__DIR__, 2) . '/vendor/autoload.php';

$stack = new Stack($argv[1], json_decode(getenv('STACK_ENV') ?: '{}', true, 512, \JSON_THROW_ON_ERROR));
$say = static function (mixed $what): void {
    fwrite(\STDOUT, json_encode($what, \JSON_THROW_ON_ERROR | \JSON_INVALID_UTF8_SUBSTITUTE) . "\n");
};
$say([
    'ws' => sprintf('ws://127.0.0.1:%d/ws', $stack->gatewayPort),
    'gateway' => 'http://127.0.0.1:' . $stack->gatewayPort,
    'app' => 'http://127.0.0.1:' . $stack->webPort,
    'secrets' => [
        'gateway' => Stack::GATEWAY_KEY, 'webhook' => Stack::WEBHOOK_SECRET, 'demo' => Stack::DEMO_KEY,
    ],
    'variables' => $stack->variables(),
]);
while (false !== fgets(\STDIN)) {
    $say([
        'gateway' => $stack->gatewayOutput(),
        'web' => $stack->webOutput(),
        'consumer' => $stack->consumerOutput(),
    ]);
}
$stack->remove();
