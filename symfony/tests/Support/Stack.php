<?php

declare(strict_types=1);

namespace App\Tests\Support;

use Snoke\WsBundle\Tests\Support\Gateway;
use Snoke\WsBundle\Tests\Support\RabbitMqServer;
use Snoke\WsBundle\Tests\Support\RedisServer;
use Snoke\WsBundle\Tests\Support\Server;
use Snoke\WsBundle\Tests\Support\WsClient;

/**
 * All of it, as it is shipped: the demo behind a web server with several workers, the gateway with the pipeline file of
 * the mode, the brokers that the mode needs, and a consumer. Everything is of the test's own, on private ports.
 */
final class Stack
{
    public const GATEWAY_KEY = 'hunter2-gateway-key';
    public const WEBHOOK_SECRET = 'hunter2-webhook-secret';
    public const DEMO_KEY = 'hunter2-demo-key';

    public readonly int $gatewayPort;
    public readonly int $webPort;
    public readonly ?RedisServer $redis;
    public readonly ?RabbitMqServer $rabbitMq;
    private readonly string $directory;
    private readonly Server $gateway;
    private readonly Server $web;
    private ?Server $consumer = null;

    /** @var array<string, string> */
    private readonly array $env;

    /**
     * @param 'terminator'|'redis'|'rabbitmq' $kind core mode by Redis or RabbitMQ, or terminator mode
     * @param array<string, string>           $env  beside what the kind needs, for both sides
     */
    public function __construct(public readonly string $kind, array $env = [])
    {
        $this->directory = Server::directory();
        $this->gatewayPort = Server::port();
        $this->webPort = Server::port();
        $this->redis = 'redis' === $kind ? new RedisServer() : null;
        $this->rabbitMq = 'rabbitmq' === $kind ? RabbitMqServer::shared() : null;
        $this->env = $env + $this->environment();

        $root = \dirname(__DIR__, 3);
        $pipeline = ['terminator' => 'terminator', 'redis' => 'core', 'rabbitmq' => 'core-rabbitmq'][$kind];
        $this->gateway = new Server(
            [Gateway::binary(), 'run', $root . '/pipelines/' . $pipeline . '.yaml', '--set', 'server.drain_seconds=1'],
            Server::directory(),
            $this->env,
        );
        Server::wait('the gateway', function (): bool {
            if (!$this->gateway->isRunning()) {
                throw new \RuntimeException("The gateway ended:\n" . $this->gateway->output());
            }

            return 200 === $this->get($this->gatewayPort, '/ready')['status'];
        });
        // The container is compiled once, before several workers would all do it.
        $this->console('cache:warmup');
        // The shell ends the server with its workers, however the test ends.
        $this->web = new Server(['sh', '-c', <<<'SH'
            setsid php -d display_errors=0 -S "127.0.0.1:$1" -t "$2" "$2/index.php" & pid=$!
            trap 'kill -- -$pid; wait $pid' EXIT
            trap 'exit 0' TERM INT
            while read -r line; do :; done
            SH, 'sh', (string) $this->webPort, $root . '/symfony/public'], Server::directory(), $this->env, true);
        Server::wait('the web server', fn (): bool => Server::accepts($this->webPort));
        if ('terminator' !== $kind) {
            $this->startConsumer();
        }
    }

    public function startConsumer(string ...$arguments): void
    {
        $this->consumer = new Server(
            [\PHP_BINARY, \dirname(__DIR__, 2) . '/bin/console', 'ws:consume', '-v', ...$arguments],
            Server::directory(),
            $this->env,
        );
        Server::wait('the consumer', fn (): bool => str_contains($this->consumer->output(), 'Quit with'));
        if (null !== $this->rabbitMq) {
            // What is published before would be dead-lettered: RabbitMQ keeps only what a queue is there for.
            Server::wait('the consumer\'s queues', fn (): bool => $this->hasQueue('ws.events') && $this->hasQueue('ws.inbox'));
        }
    }

    private function hasQueue(string $name): bool
    {
        $connection = new \AMQPConnection(['host' => '127.0.0.1', 'port' => $this->rabbitMq?->port]);
        try {
            $connection->connect();
            $queue = new \AMQPQueue(new \AMQPChannel($connection));
            $queue->setName($name);
            $queue->setFlags(\AMQP_PASSIVE);
            $queue->declareQueue();

            return true;
        } catch (\AMQPQueueException) {
            return false;
        } finally {
            $connection->disconnect();
        }
    }

    public function stopConsumer(int $signal = \SIGTERM): void
    {
        $this->consumer?->stop($signal);
    }

    public function consumerOutput(): string
    {
        return $this->consumer?->output() ?? '';
    }

    public function gatewayOutput(): string
    {
        return $this->gateway->output();
    }

    public function webOutput(): string
    {
        return $this->web->output();
    }

    /**
     * Runs a command of the demo to its end.
     *
     * @param array<string, string> $env beside the stack's own
     *
     * @return array{exit: int, output: string, errors: string}
     */
    public function console(string $name, array $arguments = [], array $env = []): array
    {
        return $this->run([\PHP_BINARY, \dirname(__DIR__, 2) . '/bin/console', $name, '--no-ansi', ...$arguments], $env);
    }

    /**
     * @param list<string>          $command
     * @param array<string, string> $env
     *
     * @return array{exit: int, output: string, errors: string}
     */
    public function run(array $command, array $env = []): array
    {
        $errors = tempnam($this->directory, 'errors');
        $process = proc_open(
            $command,
            [0 => ['file', '/dev/null', 'r'], 1 => ['pipe', 'w'], 2 => ['file', $errors, 'w']],
            $pipes,
            $this->directory,
            $env + $this->env + getenv(),
        );
        $output = (string) stream_get_contents($pipes[1]);

        return ['exit' => proc_close($process), 'output' => $output, 'errors' => (string) file_get_contents($errors)];
    }

    /**
     * A token by the demo's own key.
     *
     * @param list<string> $subjects
     */
    public function token(string $user, array $subjects = []): string
    {
        $factory = new \Snoke\WsBundle\Token\TokenFactory('RS256', null, \dirname(__DIR__, 3) . '/tests/keys/rsa.pem');

        return $factory->forUser($user, $subjects)->value;
    }

    public function connect(string $user, string ...$subjects): WsClient
    {
        return new WsClient($this->gatewayPort, $this->token($user, array_values($subjects)));
    }

    /**
     * @param array<string, string> $headers
     *
     * @return array{status: int, body: string, json: mixed, headers: list<string>}
     */
    public function api(string $method, string $path, ?string $body = null, array $headers = ['X-Demo-Key' => self::DEMO_KEY]): array
    {
        return $this->request($this->webPort, $method, $path, $body, $headers);
    }

    /**
     * Asks until the answer is as wished.
     *
     * @param \Closure(array{status: int, body: string, json: mixed, headers: list<string>}): bool $isIt
     */
    public function eventually(string $path, \Closure $isIt): array
    {
        $answer = null;
        $end = microtime(true) + 15;
        do {
            $answer = $this->api('GET', $path);
            if ($isIt($answer)) {
                return $answer;
            }
            usleep(50_000);
        } while (microtime(true) < $end);
        throw new \RuntimeException(sprintf("%s stays %d %s\n%s\n%s", $path, $answer['status'], $answer['body'], substr($this->webOutput(), -2000), substr($this->consumerOutput(), -2000)));
    }

    /**
     * @return array<string, string>
     */
    public function variables(): array
    {
        return $this->env;
    }

    public function remove(): void
    {
        // While the others are there to take its last events.
        $this->gateway->remove();
        $this->consumer?->remove();
        $this->web->remove();
        $this->redis?->remove();
        exec('rm -rf ' . escapeshellarg($this->directory));
    }

    /**
     * @return array<string, string>
     */
    private function environment(): array
    {
        $keys = \dirname(__DIR__, 3) . '/tests/keys/rsa';
        $gateway = 'http://127.0.0.1:' . $this->gatewayPort;
        $web = 'http://127.0.0.1:' . $this->webPort;

        return [
            // The gateway's.
            'WSGW_LISTEN' => '127.0.0.1:' . $this->gatewayPort,
            'GATEWAY_API_KEY' => self::GATEWAY_KEY,
            'JWT_PUBLIC_KEY_FILE' => $keys . '.pub.pem',
            'SYMFONY_WEBHOOK_URL' => 'terminator' === $this->kind ? $web . '/internal/ws/events' : '',
            'SYMFONY_WEBHOOK_SECRET' => self::WEBHOOK_SECRET,
            'REDIS_DSN' => $this->redis?->dsn() ?? '',
            'RABBITMQ_DSN' => $this->rabbitMq?->dsn() ?? '',
            'LOG_LEVEL' => 'debug',
            'WS_RATE_LIMIT_PER_SEC' => '0',
            // Both sides'.
            'WS_MODE' => 'terminator' === $this->kind ? 'terminator' : 'core',
            // The demo's.
            'APP_ENV' => 'prod',
            'APP_DEBUG' => '0',
            'APP_VAR_DIR' => $this->directory . '/var',
            'PHP_CLI_SERVER_WORKERS' => '4',
            'WS_PUBLIC_URL' => 'ws://127.0.0.1:' . $this->gatewayPort . '/ws',
            'WS_GATEWAY_BASE_URL' => $gateway,
            'WS_GATEWAY_API_KEY' => self::GATEWAY_KEY,
            'WS_REDIS_DSN' => $this->redis?->dsn() ?? 'redis://127.0.0.1:1/0',
            'WS_RABBITMQ_DSN' => $this->rabbitMq?->dsn() ?? 'amqp://guest:guest@127.0.0.1:1/%2f',
            'WS_TOKEN_KEY_FILE' => $keys . '.pem',
            'WS_TRANSPORT_TYPE' => 'rabbitmq' === $this->kind ? 'rabbitmq' : '',
            'WS_PRESENCE_TYPE' => 'rabbitmq' === $this->kind ? 'http' : '',
            'WS_EVENTS_TYPE' => 'rabbitmq' === $this->kind ? 'rabbitmq' : '',
            'DEMO_API_KEY' => self::DEMO_KEY,
            'DEMO_INBOX_REDIS_DSN' => $this->redis?->dsn() ?? '',
        ];
    }

    private function get(int $port, string $path): array
    {
        return $this->request($port, 'GET', $path, null, []);
    }

    /**
     * @param array<string, string> $headers
     *
     * @return array{status: int, body: string, json: mixed, headers: list<string>}
     */
    private function request(int $port, string $method, string $path, ?string $body, array $headers): array
    {
        $lines = array_map(static fn (string $name, string $value): string => $name . ': ' . $value, array_keys($headers), $headers);
        $context = stream_context_create(['http' => [
            'method' => $method, 'ignore_errors' => true, 'timeout' => 10, 'follow_location' => 0,
            'header' => ['Connection: close', ...$lines], 'content' => $body ?? '',
        ]]);
        $stream = @fopen('http://127.0.0.1:' . $port . $path, 'r', false, $context);
        if (false === $stream) {
            return ['status' => 0, 'body' => '', 'json' => null, 'headers' => []];
        }
        $answer = (string) stream_get_contents($stream);
        $head = stream_get_meta_data($stream)['wrapper_data'];

        return ['status' => (int) explode(' ', $head[0])[1], 'body' => $answer, 'json' => json_decode($answer, true), 'headers' => $head];
    }
}
