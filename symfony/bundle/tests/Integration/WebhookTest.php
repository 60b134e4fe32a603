<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Exception\UnprocessableEventException;
use Snoke\WsBundle\Tests\Integration\App\Application;
use Snoke\WsBundle\Tests\Integration\App\EventRecorder;
use Snoke\WsBundle\Tests\Integration\App\ReceivingKernel;
use Snoke\WsBundle\Tests\Integration\App\RecordingLogger;
use Snoke\WsBundle\Tests\Integration\App\RefusingVerifier;
use Snoke\WsBundle\Tests\Support\Gateway;
use Snoke\WsBundle\Tests\Support\Server;
use Snoke\WsBundle\Tests\Unit\Event\EventFactoryTest;
use Snoke\WsBundle\Tests\Unit\Handler\Fixture\Handlers;
use Snoke\WsBundle\Token\TokenFactory;
use Snoke\WsBundle\Webhook\SignatureVerifierInterface;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;
use Symfony\Component\HttpKernel\Exception\NotFoundHttpException;

/**
 * Webhooks of the real gateway, and forged ones, at an application with nothing but the bundle and its routes.
 */
final class WebhookTest extends TestCase
{
    private const SECRET = 'hunter2-webhook-secret';
    private const KEY = '0123456789abcdef0123456789abcdef';
    private const PATH = '/internal/ws/events';

    private ?Application $app = null;
    private ?Gateway $gateway = null;
    private ?ReceivingKernel $kernel = null;
    private string $directory;

    protected function setUp(): void
    {
        $this->directory = Server::directory();
    }

    protected function tearDown(): void
    {
        $this->gateway?->remove();
        $this->app?->remove();
        $this->kernel?->shutdown();
        exec('rm -rf ' . escapeshellarg($this->directory));
    }

    /**
     * @dataProvider signatures
     */
    #[DataProvider('signatures')]
    public function testTheGatewaysRequestsAreTaken(string $form, string $secret, string $asked): void
    {
        $this->app = new Application(self::settings(['secret' => $secret, 'signature' => $asked]));
        $url = $this->app->serve() . self::PATH;
        $this->gateway = $this->gateway($url, $secret, $form);
        $client = $this->gateway->connect(self::token());
        $client->send('{"type":"chat","n":1}');
        $client->send('{"type":"chat","n":2}');
        $client->close();

        self::assertSame(
            ['connected -', 'message_received chat 1', 'message_received chat 2', 'disconnected -'],
            $this->app->waitForEvents(4),
            $this->gateway->output() . $this->app->webOutput(),
        );
    }

    /**
     * @return iterable<string, array{string, string, string}>
     */
    public static function signatures(): iterable
    {
        yield 'standard' => ['standard', self::SECRET, 'standard'];
        yield 'standard with a secret in base64' => ['standard', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'any'];
        yield 'symfony' => ['symfony', self::SECRET, 'symfony'];
        yield 'symfony with a secret in base64' => ['symfony', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'any'];
        yield 'the body' => ['standard', self::SECRET, 'body'];
    }

    public function testAnotherSecretIsRefusedAndTheGatewayGivesUpAtOnce(): void
    {
        $this->app = new Application(self::settings(['secret' => 'another']));
        $this->gateway = $this->gateway($this->app->serve() . self::PATH, self::SECRET, 'standard');
        $this->gateway->connect(self::token());
        Server::wait('the dead letter', fn (): bool => str_contains($this->gateway?->output() ?? '', 'HTTP 401'));

        self::assertSame([], $this->app->events());
    }

    public function testAFailureOfAHandlerIsTriedAgain(): void
    {
        $this->app = new Application(self::settings(['secret' => self::SECRET]));
        $this->gateway = $this->gateway($this->app->serve() . self::PATH, self::SECRET, 'standard');
        $client = $this->gateway->connect(self::token());
        $client->send('{"type":"fail","n":1}');
        $client->send('{"type":"chat","n":2}');

        // Three tries, and the ones behind it wait for them.
        $failed = 'message_received fail 1';
        self::assertSame(['connected -', $failed, $failed, $failed, 'message_received chat 2'], $this->app->waitForEvents(5));
    }

    public function testHandlersOfTheApplicationAreCalledByTheirAttribute(): void
    {
        Handlers::$calls = [];
        $this->kernel = new ReceivingKernel(self::settings(['secret' => self::SECRET]), [], [Handlers::class => false], $this->directory . '/handlers');
        $body = (string) json_encode(EventFactoryTest::message());
        self::assertSame(204, $this->post($body, self::standard($body))->getStatusCode());

        self::assertSame(['first chat', 'chat hello', 'every chat'], Handlers::$calls);
    }

    /**
     * What the user puts behind an interface is what is used.
     */
    public function testTheApplicationsOwnVerifierIsAsked(): void
    {
        $this->kernel = new ReceivingKernel(self::settings(['secret' => self::SECRET]), [], [RefusingVerifier::class => false], $this->directory . '/own', [
            SignatureVerifierInterface::class => RefusingVerifier::class,
        ]);
        $body = self::event('a');

        self::assertSame(401, $this->post($body, self::standard($body))->getStatusCode());
        self::assertStringContainsString('refused by the application', $this->logger()->text());
    }

    public function testARepeatedEventIsTakenAndIgnored(): void
    {
        $body = self::event('a');
        self::assertSame(204, $this->post($body, self::standard($body))->getStatusCode());
        // The very same request, and the same event signed anew, as the gateway's retries are.
        self::assertSame(204, $this->post($body, self::standard($body))->getStatusCode());
        self::assertSame(204, $this->post($body, self::standard($body, time() + 1))->getStatusCode());

        self::assertCount(1, $this->recorder()->events);
    }

    public function testAnEventWhoseHandlerFailedIsNotTakenForHandled(): void
    {
        $body = self::event('a');
        $this->recorder()->failure = new \RuntimeException('s3cret');
        $response = $this->post($body, self::standard($body));
        self::assertSame(500, $response->getStatusCode());
        self::assertSame('A handler failed.', $this->detail($response));
        // What Symfony answers by 404 would be given up by the gateway.
        $this->recorder()->failure = new NotFoundHttpException('s3cret');
        self::assertSame(500, $this->post($body, self::standard($body))->getStatusCode());
        $this->recorder()->failure = new UnprocessableEventException('no such room');
        self::assertSame(422, $this->post($body, self::standard($body))->getStatusCode());
        $this->recorder()->failure = null;
        self::assertSame(204, $this->post($body, self::standard($body))->getStatusCode());

        self::assertCount(1, $this->recorder()->events);
        self::assertStringContainsString('critical: A handler failed; the gateway will try the event again.', $this->logger()->text());
    }

    /**
     * @dataProvider forgeries
     *
     * @param array<string, string> $headers
     */
    #[DataProvider('forgeries')]
    public function testAForgeryIsToldNothing(array $headers): void
    {
        $response = $this->post(self::event('a'), $headers);

        self::assertSame(401, $response->getStatusCode());
        self::assertSame('application/problem+json', $response->headers->get('Content-Type'));
        self::assertSame(
            '{"type":"about:blank","title":"Unauthorized","status":401,"detail":"The request is not signed as it must be."}',
            $response->getContent(),
        );
        self::assertSame([], $this->recorder()->events);
        self::assertStringContainsString('warning: A webhook is refused: ', $this->logger()->text());
        self::assertStringNotContainsString(self::SECRET, $this->logger()->text());
    }

    /**
     * @return iterable<string, array{array<string, string>}>
     */
    public static function forgeries(): iterable
    {
        $body = self::event('a');
        $right = ['X-Webhook-Signature' => 'sha256=' . hash_hmac('sha256', $body, self::SECRET)];
        yield 'no signature' => [[]];
        yield 'of another secret' => [self::standard($body, secret: 'another')];
        yield 'of another body' => [self::standard(self::event('b'))];
        yield 'an old one' => [self::standard($body, time() - 400)];
        yield 'one of the future' => [self::standard($body, time() + 3600)];
        yield 'an old one with a right weaker one' => [self::standard($body, time() - 400) + $right];
        yield 'a wrong one with a right weaker one' => [['webhook-signature' => 'v1,AAAA'] + self::standard($body) + $right];
        yield 'an empty one' => [['X-Webhook-Signature' => 'sha256=']];
    }

    public function testWhatIsNoEventIsSaid(): void
    {
        foreach (['17' => 'The event is not a JSON object, but int.', '{"type":"connected"}' => '`event_id` is missing.'] as $body => $detail) {
            $response = $this->post((string) $body, self::standard((string) $body));
            self::assertSame(400, $response->getStatusCode());
            self::assertSame($detail, $this->detail($response));
        }
        $body = '{"type":"of_tomorrow"}';
        self::assertSame(204, $this->post($body, self::standard($body))->getStatusCode());
        self::assertStringContainsString('notice: A webhook is skipped', $this->logger()->text());
    }

    public function testALargeBodyIsRefusedWhateverItClaims(): void
    {
        $this->kernel = $this->kernel(['max_body_bytes' => 2048]);
        $body = str_repeat('x', 2049);
        foreach ([[], ['Content-Length' => '10'], ['Content-Length' => '999999999999']] as $headers) {
            self::assertSame(413, $this->post($body, $headers)->getStatusCode());
        }
        $body = str_pad(self::event('a'), 2048);
        self::assertSame(204, $this->post($body, self::standard($body))->getStatusCode());
    }

    public function testOtherMethodsAndPaths(): void
    {
        self::assertSame(405, $this->handle(Request::create(self::PATH, 'GET'))->getStatusCode());
        $this->kernel?->shutdown();
        $this->kernel = $this->kernel(['path' => '/hooks/ws'], 'other');
        $body = self::event('a');
        self::assertSame(204, $this->post($body, self::standard($body), '/hooks/ws')->getStatusCode());
        $this->kernel->shutdown();
        $this->kernel = $this->kernel(['enabled' => false], 'off');
        self::assertSame(404, $this->post($body, self::standard($body))->getStatusCode());
    }

    public function testWithoutASecretNothingIsTaken(): void
    {
        // The environment gives it, so that nobody knows before.
        $_ENV['RECEIVING_TEST_SECRET'] = '';
        $this->kernel = $this->kernel(['secret' => '%env(RECEIVING_TEST_SECRET)%']);
        $body = self::event('a');
        $response = $this->post($body, self::standard($body));
        unset($_ENV['RECEIVING_TEST_SECRET']);

        self::assertSame(503, $response->getStatusCode());
        self::assertSame([], $this->recorder()->events);
        self::assertStringContainsString('"snoke_ws.events.webhook.secret" is empty', $this->logger()->text());
    }

    private static function gatewayYaml(string $url, string $secret, string $form): string
    {
        return <<<YAML
              mode: terminator
              stages: [{ auth: { jwt: { algorithm: HS256, public_key: "0123456789abcdef0123456789abcdef" } } }, { fan_out: {} }]
              events: { webhook: { url: "{$url}", secret: "{$secret}", signature: {$form}, retry_base_seconds: 0.05 } }
            YAML;
    }

    private function gateway(string $url, string $secret, string $form): Gateway
    {
        return new Gateway(self::gatewayYaml($url, $secret, $form));
    }

    private static function token(): string
    {
        return (new TokenFactory('HS256', self::KEY))->forUser('42')->value;
    }

    /**
     * @param array<string, mixed> $webhook
     *
     * @return array<string, mixed>
     */
    private static function settings(array $webhook): array
    {
        return [
            'transport' => ['http' => ['base_url' => 'http://gateway', 'api_key' => 'key']],
            'events' => ['webhook' => $webhook],
        ];
    }

    /**
     * @param array<string, mixed> $webhook
     */
    private function kernel(array $webhook = [], string $name = 'app'): ReceivingKernel
    {
        $kernel = new ReceivingKernel(self::settings($webhook + ['secret' => self::SECRET]), [], [], $this->directory . '/' . $name);
        $kernel->boot();

        return $kernel;
    }

    /**
     * @param array<string, string> $headers
     */
    private function post(string $body, array $headers, string $path = self::PATH): Response
    {
        $request = Request::create($path, 'POST', content: $body);
        $request->headers->add($headers);

        return $this->handle($request);
    }

    private function handle(Request $request): Response
    {
        $this->kernel ??= $this->kernel();

        return $this->kernel->handle($request);
    }

    private function recorder(): EventRecorder
    {
        $this->kernel ??= $this->kernel();
        $recorder = $this->kernel->getContainer()->get(EventRecorder::class);
        self::assertInstanceOf(EventRecorder::class, $recorder);

        return $recorder;
    }

    private function logger(): RecordingLogger
    {
        $logger = $this->kernel?->getContainer()->get('logger');
        self::assertInstanceOf(RecordingLogger::class, $logger);

        return $logger;
    }

    private function detail(Response $response): string
    {
        return json_decode((string) $response->getContent(), true)['detail'];
    }

    private static function event(string $id): string
    {
        return (string) json_encode(['event_id' => $id] + EventFactoryTest::CONNECTED);
    }

    /**
     * @return array<string, string>
     */
    private static function standard(string $body, ?int $timestamp = null, string $secret = self::SECRET): array
    {
        $timestamp ??= time();

        return [
            'webhook-id' => 'id',
            'webhook-timestamp' => (string) $timestamp,
            'webhook-signature' => 'v1,' . base64_encode(hash_hmac('sha256', "id.$timestamp.$body", $secret, true)),
        ];
    }
}
