<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Messenger;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Event\EventFactory;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Snoke\WsBundle\Messenger\EventSerializer;
use Snoke\WsBundle\Messenger\UnreadableEvent;
use Snoke\WsBundle\Tests\Unit\Event\EventFactoryTest;
use Symfony\Component\Messenger\Envelope;
use Symfony\Component\Messenger\Exception\MessageDecodingFailedException;
use Symfony\Component\Messenger\Stamp\BusNameStamp;
use Symfony\Component\Messenger\Stamp\RedeliveryStamp;

final class EventSerializerTest extends TestCase
{
    public function testAnEventKeepsAllOnItsWayBackForARetry(): void
    {
        $serializer = new EventSerializer(new EventFactory());
        $body = (string) json_encode(EventFactoryTest::message() + ['traceparent' => 'tp', 'new' => ['x' => 1.0]]);
        $first = $serializer->decode(['body' => $body, 'headers' => ['type' => 'message_received', 'replayed' => '1']]);
        $again = $serializer->encode($first->with(new RedeliveryStamp(2), new BusNameStamp('bus')));

        self::assertSame($body, $again['body'], 'byte for byte');
        self::assertSame('message_received', $again['headers']['type']);
        self::assertSame('tp', $again['headers']['traceparent']);
        $second = $serializer->decode($again);
        $event = $second->getMessage();
        self::assertInstanceOf(WebsocketMessageReceivedEvent::class, $event);
        self::assertTrue($event->replayed);
        self::assertSame(2, $second->last(RedeliveryStamp::class)?->getRetryCount());
        self::assertSame('bus', $second->last(BusNameStamp::class)?->getBusName());
    }

    public function testTheTraceContextOfTheHeaderIsThatOfTheSpanThatSentIt(): void
    {
        $header = '00-0af7651916cd43dd8448eb211c80319c-aaaaaaaaaaaaaaaa-01';
        $body = (string) json_encode(EventFactoryTest::message() + ['traceparent' => str_replace('a', 'b', $header)]);
        $serializer = new EventSerializer(new EventFactory());
        $envelope = $serializer->decode(['body' => $body, 'headers' => ['traceparent' => $header]]);

        self::assertSame($header, $envelope->getMessage()->traceparent);
        self::assertSame($header, $serializer->encode($envelope)['headers']['traceparent'], 'on a retry, too');
    }

    public function testWhatIsNoEventIsHandedOnInsteadOfEndingTheWorker(): void
    {
        $serializer = new EventSerializer(new EventFactory());
        foreach ([['body' => '17'], ['body' => ['x']], [], ['body' => '{"type":"of_tomorrow"}', 'headers' => 'x']] as $encoded) {
            $envelope = $serializer->decode($encoded);
            $message = $envelope->getMessage();
            self::assertInstanceOf(UnreadableEvent::class, $message);
            self::assertSame($message->raw, $serializer->encode($envelope)['body']);
        }
    }

    public function testOtherMessagesHaveNoBusinessThere(): void
    {
        $this->expectException(MessageDecodingFailedException::class);
        (new EventSerializer(new EventFactory()))->encode(new Envelope(new \stdClass()));
    }
}
