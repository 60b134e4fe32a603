<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Command;

use Snoke\WsBundle\Amqp\AmqpDsn;
use Snoke\WsBundle\Client\GatewayClient;
use Snoke\WsBundle\Client\WebSocketClient;
use Snoke\WsBundle\Consumer\SourceFactory;
use Snoke\WsBundle\Exception\ExceptionInterface;
use Snoke\WsBundle\Presence\PresenceProviderInterface;
use Snoke\WsBundle\Presence\Store\ConnectionReader;
use Snoke\WsBundle\Redis\RedisClientFactory;
use Snoke\WsBundle\Setting\Setting;
use Snoke\WsBundle\Token\TokenFactoryInterface;
use Symfony\Component\Console\Attribute\AsCommand;
use Symfony\Component\Console\Command\Command;
use Symfony\Component\Console\Input\InputInterface;
use Symfony\Component\Console\Input\InputOption;
use Symfony\Component\Console\Output\OutputInterface;
use Symfony\Component\Routing\RouterInterface;

/**
 * Compares the application's settings with the gateway that runs, as far as one side can see the other.
 */
#[AsCommand(name: 'ws:check', description: 'Compares the settings with the running gateway, and says what does not fit')]
final class CheckCommand extends Command
{
    /** Seconds of difference that are worth a word. */
    private const CLOCK_SECONDS = 5;

    /** Seconds for the gateway to write down a connection. */
    private const PRESENCE_SECONDS = 3.0;

    /**
     * @param array{
     *     mode: ?string, public_url: ?string, user_prefix: ?string, transport_type: ?string, presence_type: ?string,
     *     events_type: ?string, redis_dsns: array<string, ?string>, rabbitmq_dsns: array<string, ?string>,
     *     token_algorithm: ?string, api_key: ?string, webhook_enabled: bool, webhook_path: ?string,
     *     webhook_secret: ?string, webhook_allow_unsigned: bool, webhook_tolerance: int,
     * } $settings effective ones
     * @param \Closure(): TokenFactoryInterface     $tokens
     * @param \Closure(): PresenceProviderInterface $presence
     */
    public function __construct(
        private readonly array $settings,
        private readonly \Closure $tokens,
        private readonly \Closure $presence,
        private readonly GatewayClient $gateway,
        private readonly ?RouterInterface $router,
        private readonly string $projectDir,
    ) {
        parent::__construct();
    }

    protected function configure(): void
    {
        $this
            ->addOption('pipeline', 'p', InputOption::VALUE_REQUIRED, 'The gateway\'s file, for "wsgw check --symfony"')
            ->addOption('config', null, InputOption::VALUE_REQUIRED, 'The bundle\'s file', 'config/packages/snoke_ws.yaml')
            ->addOption('wsgw', null, InputOption::VALUE_REQUIRED, 'The gateway\'s program (default: wsgw of PATH)')
            ->addOption('timeout', 't', InputOption::VALUE_REQUIRED, 'Seconds that connecting may take', '5')
            ->addOption('format', null, InputOption::VALUE_REQUIRED, 'Output: "text" or "json"', 'text')
            ->setHelp(<<<'HELP'
                <info>%command.full_name%</info> looks at what is configured and asks the gateway that runs: whether it is ready and takes the API key
                and the tokens, whether both name users and find them online in the same way, and whether the clocks agree.

                <info>%command.full_name% --pipeline=/etc/wsgw/terminator.yaml</info> also compares both files, where <info>wsgw</info> is installed here. The
                gateway's variables must then be set here as they are there.

                It changes nothing, and ends with 1 if something does not fit. <info>ws:ping</info> goes the whole way instead.
                HELP)
        ;
    }

    protected function execute(InputInterface $input, OutputInterface $output): int
    {
        $report = new Report($output, Options::isJson($input));
        $timeout = Options::seconds($input, 'timeout');
        $types = $this->checkTypes($report);
        if (null !== $types) {
            $this->checkWebhook($report, $types['events']);
            $this->checkBrokers($report, $types);
            $isUp = $this->checkGateway($report, $types);
            $hasToken = $this->checkToken($report);
            $this->checkClient($report, $isUp, $hasToken, $timeout);
        }
        $this->compareFiles($report, $input);
        $report->finish(['settings' => $types]);

        return $report->hasFailed() ? Command::FAILURE : Command::SUCCESS;
    }

    /**
     * @return array{mode: string, transport: string, presence: string, events: string}|null
     */
    private function checkTypes(Report $report): ?array
    {
        try {
            $mode = Setting::mode($this->settings['mode']);
            $types = [
                'mode' => $mode,
                'transport' => Setting::type('transport', $mode, $this->settings['transport_type']),
                'presence' => Setting::type('presence', $mode, $this->settings['presence_type']),
                'events' => Setting::type('events', $mode, $this->settings['events_type']),
            ];
        } catch (ExceptionInterface $exception) {
            $report->fail('settings', $exception->getMessage());

            return null;
        }
        $report->ok('settings', sprintf('%s mode: pushes by %s, events by %s, presence by %s', $mode, $types['transport'], $types['events'], $types['presence']));

        return $types;
    }

    private function checkWebhook(Report $report, string $events): void
    {
        if ('webhook' !== $events) {
            $report->skip('webhook', sprintf('events come by %s', $events));

            return;
        }
        if (!$this->settings['webhook_enabled']) {
            $report->fail('webhook', '"snoke_ws.events.webhook.enabled" is off, and so no event is taken');
        }
        $secret = (string) $this->settings['webhook_secret'];
        if ('' === $secret && !$this->settings['webhook_allow_unsigned']) {
            $report->fail('secret', '"snoke_ws.events.webhook.secret" is empty: every event is refused', 'Set it to the gateway\'s SYMFONY_WEBHOOK_SECRET. "openssl rand -hex 32" makes one.');
        } elseif ('' === $secret) {
            $report->warn('secret', 'no secret, and "snoke_ws.events.webhook.allow_unsigned" is on', 'Whoever reaches the path can make up events.');
        } elseif (\strlen($secret) < 16) {
            $report->warn('secret', 'the webhook\'s secret is shorter than 16 bytes', 'Short ones can be guessed. "openssl rand -hex 32" makes one.');
        } else {
            $report->ok('secret', 'the webhook has a secret; ws:ping shows whether the gateway has the same');
        }
        try {
            $path = Setting::path('events.webhook.path', $this->settings['webhook_path']);
        } catch (ExceptionInterface $exception) {
            $report->fail('webhook', $exception->getMessage());

            return;
        }
        if (null !== $this->router && null === $this->router->getRouteCollection()->get('snoke_ws_webhook')) {
            $report->fail('webhook', 'the bundle\'s routes are not imported: the gateway gets 404', 'Put into config/routes/snoke_ws.yaml: "snoke_ws: { resource: \'@SnokeWsBundle/config/routes.php\' }".');

            return;
        }
        $report->ok('webhook', sprintf('taken at %s: the path of the gateway\'s SYMFONY_WEBHOOK_URL', $path));
    }

    /**
     * Connects to the brokers that pushes go to and events come from.
     *
     * @param array<string, string> $types
     */
    private function checkBrokers(Report $report, array $types): void
    {
        $ask = [
            'redis_stream' => static fn (?string $dsn, string $path): mixed => RedisClientFactory::create($dsn, $path)->call('PING'),
            'rabbitmq' => static function (?string $dsn, string $path): void {
                $amqp = SourceFactory::amqp(AmqpDsn::parse($dsn, $path));
                $amqp->connect();
                $amqp->close();
            },
        ];
        $asked = [];
        foreach (['transport', 'events'] as $section) {
            $type = $types[$section];
            if (!isset($ask[$type])) {
                continue;
            }
            $name = 'rabbitmq' === $type ? 'rabbitmq' : 'redis';
            $path = $section . '.' . $type . '.dsn';
            $dsn = $this->settings[$name . '_dsns'][$path];
            if (\in_array($dsn, $asked, true)) {
                continue;
            }
            $asked[] = $dsn;
            try {
                $started = microtime(true);
                $ask[$type]($dsn, $path);
                $report->ok($name, 'answers', microtime(true) - $started);
            } catch (ExceptionInterface $exception) {
                $report->fail($name, $exception->getMessage(), sprintf('See "snoke_ws.%s".', $path));
            }
        }
    }

    /**
     * @param array<string, string> $types
     */
    private function checkGateway(Report $report, array $types): bool
    {
        if (!$this->gateway->isConfigured()) {
            $message = '"snoke_ws.transport.http.base_url" is not set';
            'http' === $types['transport'] || 'http' === $types['presence']
                ? $report->fail('gateway', $message . ', and pushes or presence need it', 'Set it to the gateway\'s address, such as "http://gateway:8000".')
                : $report->skip('gateway', $message . ', so that no gateway can be asked');

            return false;
        }
        if ('' === (string) $this->settings['api_key']) {
            $report->fail('api key', '"snoke_ws.transport.http.api_key" is empty', 'Set it to the gateway\'s GATEWAY_API_KEY; "openssl rand -hex 32" makes one.');

            return false;
        }
        try {
            $started = microtime(true);
            $ready = $this->gateway->get('/ready');
            $seconds = microtime(true) - $started;
            $answer = $this->gateway->get('/internal/connections', ['limit' => 1]);
        } catch (ExceptionInterface $exception) {
            $report->fail('gateway', $exception->getMessage(), 'Is it running, and is "snoke_ws.transport.http.base_url" its address?');

            return false;
        }
        match (true) {
            200 === $ready['status'] => $report->ok('gateway', 'is ready', $seconds),
            503 === $ready['status'] => $report->fail('gateway', sprintf('is not ready: %s', self::unready($ready['json']))),
            404 === $ready['status'] => $report->warn('gateway', 'does not tell whether it is ready', 'Is "snoke_ws.transport.http.base_url" the gateway\'s internal address (server.internal_listen)?'),
            default => $report->fail('gateway', sprintf('answered %d to GET /ready: is it a wsgw?', $ready['status'])),
        };
        match ($answer['status']) {
            200 => $report->ok('api key', 'is the gateway\'s'),
            401 => $report->fail('api key', '"snoke_ws.transport.http.api_key" is not the gateway\'s server.api_key', 'In the shipped pipelines it is GATEWAY_API_KEY; the demo\'s side is WS_GATEWAY_API_KEY.'),
            403 => $report->fail('api key', 'the gateway has none, and refuses every call', 'Set GATEWAY_API_KEY there.'),
            default => $report->fail('api key', sprintf('the gateway answered %d to GET /internal/connections', $answer['status'])),
        };
        $this->checkClock($report, $answer['date']);

        return true;
    }

    private function checkClock(Report $report, ?int $date): void
    {
        if (null === $date) {
            $report->skip('clock', 'the gateway\'s answers bear no date');

            return;
        }
        $apart = abs(time() - $date);
        $tolerance = $this->settings['webhook_tolerance'];
        match (true) {
            $apart <= self::CLOCK_SECONDS => $report->ok('clock', 'agrees with the gateway\'s'),
            $apart <= $tolerance => $report->warn('clock', sprintf('%d seconds apart from the gateway\'s', $apart), 'Short tokens end early or late. Let both follow NTP.'),
            default => $report->fail('clock', sprintf('%d seconds apart from the gateway\'s: webhooks are refused as old', $apart), 'Let both follow NTP.'),
        };
    }

    private function checkToken(Report $report): bool
    {
        $algorithm = (string) $this->settings['token_algorithm'];
        try {
            $started = microtime(true);
            ($this->tokens)()->forUser(PingEventHandler::USER_PREFIX . 'check', [], [], 60);
            $report->ok('token', sprintf('is signed by %s', $algorithm), microtime(true) - $started);

            return true;
        } catch (ExceptionInterface $exception) {
            $make = [
                'RS256' => 'openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out FILE',
                'ES256' => 'openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out FILE',
            ][$algorithm] ?? 'openssl rand -base64 48';
            $report->fail('token', $exception->getMessage(), sprintf(
                '"%s" makes a key%s.',
                $make,
                str_contains($make, 'genpkey') ? '; the gateway gets what "openssl pkey -in FILE -pubout" gives, as JWT_PUBLIC_KEY_FILE' : ', which the gateway gets, too',
            ));

            return false;
        }
    }

    /**
     * Connects as a client, and looks whether both sides call it the same.
     */
    private function checkClient(Report $report, bool $isUp, bool $hasToken, float $timeout): void
    {
        if (null === $this->settings['public_url'] || '' === $this->settings['public_url']) {
            $report->warn('client', '"snoke_ws.public_url" is not set, so that no client can be tried', 'Set it to where clients connect, such as "wss://app.example/ws": ws_url() needs it, too.');

            return;
        }
        if (!$hasToken) {
            $report->skip('client', 'without a token no client can be tried');

            return;
        }
        $user = PingEventHandler::USER_PREFIX . bin2hex(random_bytes(6));
        $client = null;
        try {
            $url = Setting::url('public_url', $this->settings['public_url'], ['ws', 'wss'], 'wss://app.example/ws');
            $started = microtime(true);
            $client = new WebSocketClient($url, ($this->tokens)()->forUser($user, [], [], 60)->value, $timeout);
            $client->send('{"type":"ping"}');
            $pong = $client->waitFor(static fn (array $message): bool => 'pong' === ($message['type'] ?? null));
            if (null === $pong) {
                $report->warn('client', sprintf('%s takes the token, and does not answer {"type":"ping"}', $url), 'Does its pipeline lack the stage ping_filter?');
            } else {
                $report->ok('client', sprintf('%s takes the application\'s token', $url), microtime(true) - $started);
            }
            $subject = (string) $this->settings['user_prefix'] . $user;
            if ($isUp) {
                $this->checkSubject($report, $user, $subject);
            }
            $this->checkPresence($report, $user);
        } catch (ExceptionInterface $exception) {
            $report->fail('client', $exception->getMessage(), 4401 === $exception->getCode()
                ? 'The gateway\'s key must be the public half of "snoke_ws.token.key_file", and JWT_ALG "snoke_ws.token.algorithm".'
                : 'See "snoke_ws.public_url" and "snoke_ws.token".');
        } finally {
            $client?->close();
        }
    }

    private function checkSubject(Report $report, string $user, string $subject): void
    {
        $answer = $this->gateway->get('/internal/users/' . rawurlencode($user) . '/connections');
        if (200 !== $answer['status']) {
            return;
        }
        $connections = \is_array($answer['json']) ? $answer['json']['connections'] ?? null : null;
        $connection = ConnectionReader::read(\is_array($connections) ? $connections[0] ?? null : null);
        if (null === $connection) {
            $report->fail('user', 'the gateway at "snoke_ws.transport.http.base_url" does not know the client', 'Is it another gateway than that of "snoke_ws.public_url", or is "snoke_ws.token.user_id_claim" another than JWT_USER_ID_CLAIM?');
        } elseif (!\in_array($subject, $connection->subjects, true)) {
            $report->fail('user', sprintf('the gateway calls a user %s, the application %s: pushes to users reach nobody', json_encode($connection->subjects), json_encode($subject)), 'Give both the same subjects.user_prefix.');
        } else {
            $report->ok('user', sprintf('both sides call a user %s…', json_encode($this->settings['user_prefix'] ?? '')));
        }
    }

    private function checkPresence(Report $report, string $user): void
    {
        try {
            $presence = ($this->presence)();
            $end = microtime(true) + self::PRESENCE_SECONDS;
            while (!$presence->isOnline($user)) {
                if (microtime(true) > $end) {
                    $report->fail('presence', 'the client is connected, and the application does not find it online', 'Has the gateway a presence store, and is it the one of "snoke_ws.presence" with the same prefix?');

                    return;
                }
                usleep(50_000);
            }
            $report->ok('presence', 'the application finds the client online');
        } catch (ExceptionInterface $exception) {
            $report->fail('presence', $exception->getMessage());
        }
    }

    private function compareFiles(Report $report, InputInterface $input): void
    {
        $pipeline = Options::text($input, 'pipeline');
        if (null === $pipeline) {
            $report->skip('files', 'not compared: name the gateway\'s file by --pipeline');

            return;
        }
        $program = Options::text($input, 'wsgw') ?? self::find('wsgw');
        if (null === $program) {
            $report->skip('files', 'not compared: there is no wsgw on the PATH');

            return;
        }
        $config = (string) Options::text($input, 'config');
        $pipes = [];
        $config = is_file($config) ? $config : $this->projectDir . '/' . $config;
        $environment = array_filter([...getenv(), ...$_ENV], 'is_scalar');
        $process = @proc_open(
            [$program, 'check', '--symfony', $config, $pipeline],
            [0 => ['file', '/dev/null', 'r'], 1 => ['pipe', 'w'], 2 => ['redirect', 1]],
            $pipes,
            null,
            array_map('strval', $environment),
        );
        if (!\is_resource($process)) {
            $report->fail('files', sprintf('%s cannot be started', $program));

            return;
        }
        $output = isset($pipes[1]) ? trim((string) stream_get_contents($pipes[1])) : '';
        0 === proc_close($process)
            ? $report->ok('files', str_ends_with($output, ': ok') ? 'fit together' : "fit together\n" . $output)
            : $report->fail('files', "do not fit together\n" . $output);
    }

    private static function find(string $name): ?string
    {
        foreach (explode(\PATH_SEPARATOR, (string) getenv('PATH')) as $directory) {
            if ('' !== $directory && is_executable($directory . '/' . $name)) {
                return $directory . '/' . $name;
            }
        }

        return null;
    }

    private static function unready(mixed $answer): string
    {
        $checks = \is_array($answer) && \is_array($answer['checks'] ?? null) ? $answer['checks'] : [];
        $parts = [];
        foreach ($checks as $name => $state) {
            $parts[] = $name . ': ' . (\is_string($state) ? $state : (string) json_encode($state));
        }

        return [] === $parts ? 'it is starting or stopping' : implode(', ', $parts);
    }
}
