<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\RemoteEvent;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Event\EventFactory;
use Snoke\WsBundle\Event\WebsocketConnectionEstablishedEvent;
use Snoke\WsBundle\Event\WebsocketEvent;
use Snoke\WsBundle\Handler\EventReceiver;
use Snoke\WsBundle\RemoteEvent\WsRemoteEventConsumer;
use Snoke\WsBundle\RemoteEvent\WsRequestParser;
use Snoke\WsBundle\SnokeWsBundle;
use Snoke\WsBundle\Tests\Unit\Event\EventFactoryTest;
use Snoke\WsBundle\Webhook\SignatureVerifier;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\EventDispatcher\EventDispatcher;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\RemoteEvent\RemoteEvent;
use Symfony\Component\Webhook\Exception\RejectWebhookException;

/**
 * With symfony/webhook a gateway's request becomes an event without code of the application.
 *
 * @runTestsInSeparateProcesses
 *
 * @preserveGlobalState disabled
 */
#[\PHPUnit\Framework\Attributes\RunTestsInSeparateProcesses]
#[\PHPUnit\Framework\Attributes\PreserveGlobalState(false)]
final class RemoteEventTest extends TestCase
{
    private const SECRET = 'secret';

    protected function setUp(): void
    {
        require_once \dirname(__DIR__, 2) . '/Stub/webhook.php';
    }

    public function testFromTheRequestToTheEvent(): void
    {
        $remote = $this->parse((string) json_encode(EventFactoryTest::CONNECTED));
        self::assertInstanceOf(RemoteEvent::class, $remote);
        self::assertSame('connected', $remote->getName());
        self::assertSame(EventFactoryTest::CONNECTED['event_id'], $remote->getId());

        $events = [];
        $dispatcher = new EventDispatcher();
        $dispatcher->addListener(WebsocketConnectionEstablishedEvent::class, static function (WebsocketEvent $event) use (&$events): void {
            $events[] = $event;
        });
        $consumer = new WsRemoteEventConsumer(new EventFactory(), new EventReceiver($dispatcher));
        $consumer->consume($remote);
        $consumer->consume(new RemoteEvent('of_tomorrow', 'id', ['type' => 'of_tomorrow']));

        self::assertCount(1, $events);
        self::assertSame('42', $events[0]->userId);
    }

    public function testTheSecretOfTheRouteCounts(): void
    {
        $this->expectException(RejectWebhookException::class);
        $this->expectExceptionMessage('The request is not signed as it must be.');
        $this->parse((string) json_encode(EventFactoryTest::CONNECTED), 'another');
    }

    public function testWhatIsNoEvent(): void
    {
        self::assertNull($this->parse('{"type":"of_tomorrow"}'));
        try {
            $this->parse('17');
            self::fail('must be refused');
        } catch (RejectWebhookException $exception) {
            self::assertSame(400, $exception->getStatusCode());
        }
    }

    public function testTheServicesAreThere(): void
    {
        $container = new ContainerBuilder();
        $extension = (new SnokeWsBundle())->getContainerExtension();
        self::assertNotNull($extension);
        $extension->load([['events' => ['webhook' => ['secret' => 's']], 'transport' => ['http' => ['base_url' => 'http://x', 'api_key' => 'k']]]], $container);

        self::assertTrue($container->hasDefinition('snoke_ws.webhook.request_parser'));
        self::assertSame(
            [['consumer' => 'wsgw']],
            $container->getDefinition('snoke_ws.remote_event_consumer')->getTag('remote_event.consumer'),
        );
    }

    private function parse(string $body, string $secret = self::SECRET): ?RemoteEvent
    {
        $request = Request::create('/webhook/wsgw', 'POST', content: $body);
        $request->headers->set('X-Webhook-Signature', 'sha256=' . hash_hmac('sha256', $body, self::SECRET));

        return (new WsRequestParser(new SignatureVerifier(null), new EventFactory()))->parse($request, $secret);
    }
}
