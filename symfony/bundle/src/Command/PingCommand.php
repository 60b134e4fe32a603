<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Command;

use Snoke\WsBundle\Client\WebSocketClient;
use Snoke\WsBundle\Exception\ConnectionException;
use Snoke\WsBundle\Exception\ExceptionInterface;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;
use Snoke\WsBundle\Setting\Setting;
use Snoke\WsBundle\Token\TokenFactoryInterface;
use Symfony\Component\Console\Attribute\AsCommand;
use Symfony\Component\Console\Command\Command;
use Symfony\Component\Console\Input\InputInterface;
use Symfony\Component\Console\Input\InputOption;
use Symfony\Component\Console\Output\OutputInterface;

/**
 * Goes the whole way once: token, WebSocket, push to a client, client's message back to the application.
 */
#[AsCommand(name: 'ws:ping', description: 'Goes the whole way to a client and back, and times each hop')]
final class PingCommand extends Command
{
    /**
     * @param \Closure(): TokenFactoryInterface       $tokens
     * @param \Closure(): WebsocketPublisherInterface $publisher
     */
    public function __construct(
        private readonly \Closure $tokens,
        private readonly \Closure $publisher,
        private readonly ?string $mode,
        private readonly ?string $publicUrl,
        private readonly ?string $transportType,
        private readonly ?string $eventsType,
    ) {
        parent::__construct();
    }

    protected function configure(): void
    {
        $this
            ->addOption('url', null, InputOption::VALUE_REQUIRED, 'Where to connect (default: public_url)')
            ->addOption('timeout', 't', InputOption::VALUE_REQUIRED, 'Seconds that one hop may take', '5')
            ->addOption('count', 'c', InputOption::VALUE_REQUIRED, 'How often to push and to send', '1')
            ->addOption('no-events', null, InputOption::VALUE_NONE, 'Leave out the way from a client to the application')
            ->addOption('format', null, InputOption::VALUE_REQUIRED, 'Output: "text" or "json"', 'text')
            ->setHelp(<<<'HELP'
                <info>%command.full_name%</info> makes a token, connects to the gateway as a client of its own does, and times each hop:

                  token    signed by the application's key
                  connect  TCP, TLS and the WebSocket handshake, with that token
                  answer   {"type":"ping"}, answered by the gateway itself
                  push     from this command by the configured transport to the client
                  event    from the client by webhook or broker to the application, which pushes an answer back: the web server,
                           or a running <info>ws:consume</info>, must have the same code as this command

                It ends with 1 if a hop fails. With <info>--count=20</info> the times are medians.
                HELP)
        ;
    }

    protected function execute(InputInterface $input, OutputInterface $output): int
    {
        $report = new Report($output, Options::isJson($input));
        $timeout = Options::seconds($input, 'timeout');
        $count = Options::count($input, 'count', 10000);
        $user = PingEventHandler::USER_PREFIX . bin2hex(random_bytes(6));
        $client = null;
        $url = null;
        $step = 'token';
        try {
            $url = Setting::url('public_url', Options::text($input, 'url') ?? $this->publicUrl, ['ws', 'wss'], 'wss://app.example/ws');
            $started = microtime(true);
            $token = ($this->tokens)()->forUser($user, [], [], 300);
            $report->ok($step, sprintf('signed for the user "%s"', $user), microtime(true) - $started);

            $step = 'connect';
            $started = microtime(true);
            $client = new WebSocketClient($url, $token->value, $timeout);
            $connected = microtime(true) - $started;
            $step = 'answer';
            // A token that is refused shows here: the gateway upgrades first, and closes with 4401.
            $answered = $this->answer($client);
            $report->ok('connect', $url, $connected);
            $report->ok($step, 'the gateway answers pings', $answered);

            $step = 'push';
            $publisher = ($this->publisher)();
            $type = Setting::type('transport', $this->mode, $this->transportType);
            $seconds = $this->push($client, $publisher, $user, $timeout, $count);
            if (null === $seconds) {
                $report->fail($step, sprintf('pushed by %s, but nothing arrived within %s s', $type, $timeout), $this->pushHint($type));
            } else {
                $report->ok($step, sprintf('from here by %s to the client', $type), $seconds);
            }

            $step = 'event';
            $events = Setting::type('events', $this->mode, $this->eventsType);
            if ('none' === $events || Options::flag($input, 'no-events')) {
                $report->skip($step, 'none' === $events ? 'events.type is "none"' : 'left out by --no-events');
            } elseif (null === $seconds) {
                $report->skip($step, 'its answer would be a push');
            } else {
                $seconds = $this->event($client, $count);
                if (null === $seconds) {
                    $report->fail($step, sprintf('sent, but the application did not answer within %s s', $timeout), self::eventHint($events));
                } else {
                    $report->ok($step, sprintf('from the client by %s to the application, and its push back', $events), $seconds);
                }
            }
        } catch (ExceptionInterface $exception) {
            $report->fail($step, $exception->getMessage(), $this->hint($step, $exception));
        } finally {
            $client?->close();
        }
        $report->finish(['url' => $url, 'user' => $user]);

        return $report->hasFailed() ? Command::FAILURE : Command::SUCCESS;
    }

    private function answer(WebSocketClient $client): float
    {
        $started = microtime(true);
        $client->send('{"type":"ping"}');
        if (null === $client->waitFor(static fn (array $message): bool => 'pong' === ($message['type'] ?? null))) {
            throw new ConnectionException('The gateway does not answer {"type":"ping"}.');
        }

        return microtime(true) - $started;
    }

    private function push(WebSocketClient $client, WebsocketPublisherInterface $publisher, string $user, float $timeout, int $count): ?float
    {
        $times = [];
        for ($n = 0; $n < $count; ++$n) {
            $nonce = bin2hex(random_bytes(8));
            $started = microtime(true);
            $publisher->toUser($user, ['type' => 'ws.ping.push', 'nonce' => $nonce]);
            if (null === $client->waitFor(self::isPush($nonce), $timeout)) {
                return null;
            }
            $times[] = microtime(true) - $started;
        }

        return self::median($times);
    }

    private function event(WebSocketClient $client, int $count): ?float
    {
        $times = [];
        for ($n = 0; $n < $count; ++$n) {
            $nonce = bin2hex(random_bytes(8));
            $started = microtime(true);
            $client->send(json_encode(['type' => PingEventHandler::TYPE, 'nonce' => $nonce], \JSON_THROW_ON_ERROR));
            if (null === $client->waitFor(self::isPush($nonce))) {
                return null;
            }
            $times[] = microtime(true) - $started;
        }

        return self::median($times);
    }

    /**
     * @return \Closure(array<array-key, mixed>): bool
     */
    private static function isPush(string $nonce): \Closure
    {
        return static fn (array $message): bool => 'event' === ($message['type'] ?? null) && $nonce === ($message['payload']['nonce'] ?? null);
    }

    /**
     * @param non-empty-list<float> $times
     */
    private static function median(array $times): float
    {
        sort($times);

        return $times[intdiv(\count($times), 2)];
    }

    private function hint(string $step, ExceptionInterface $exception): string
    {
        return match (true) {
            4401 === $exception->getCode() => 'The gateway\'s key must be the public half of "snoke_ws.token.key_file", its JWT_ALG the same as "snoke_ws.token.algorithm", and both clocks right.',
            'connect' === $step => 'Is the gateway running, and is "snoke_ws.public_url" its address as seen from here? Try --url.',
            default => '',
        };
    }

    private function pushHint(string $type): string
    {
        return match ($type) {
            'http' => 'Does "snoke_ws.transport.http.base_url" name the gateway that serves "snoke_ws.public_url", and is "snoke_ws.subjects.user_prefix" the same on both sides?',
            'redis_stream' => 'Is REDIS_DSN of the gateway this Redis, and its stream "snoke_ws.transport.redis_stream.stream"? GET /ready of the gateway says whether it reads.',
            'rabbitmq' => 'Is RABBITMQ_DSN of the gateway this broker, and its exchange "snoke_ws.transport.rabbitmq.exchange"? GET /ready of the gateway says whether it reads.',
            default => 'The transport keeps pushes to itself.',
        };
    }

    private static function eventHint(string $type): string
    {
        return 'webhook' === $type
            ? 'Is the application served at the gateway\'s SYMFONY_WEBHOOK_URL, with the bundle\'s routes imported and the same secret? Its log, and the gateway\'s ("webhook_failed"), say more.'
            : 'Is "ws:consume" running? The gateway\'s GET /ready says whether it reaches the broker.';
    }
}
