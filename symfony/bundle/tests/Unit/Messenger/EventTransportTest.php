<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Messenger;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Consumer\Entry;
use Snoke\WsBundle\Consumer\SourceFactory;
use Snoke\WsBundle\Consumer\SourceUnavailableException;
use Snoke\WsBundle\Event\EventFactory;
use Snoke\WsBundle\Messenger\EventTransport;
use Snoke\WsBundle\Messenger\EventTransportFactory;
use Snoke\WsBundle\Tests\Unit\Consumer\FakeSource;
use Snoke\WsBundle\Tests\Unit\Event\EventFactoryTest;
use Symfony\Component\Messenger\Envelope;
use Symfony\Component\Messenger\Exception\InvalidArgumentException;
use Symfony\Component\Messenger\Exception\LogicException;
use Symfony\Component\Messenger\Exception\TransportException;
use Symfony\Component\Messenger\Stamp\DelayStamp;
use Symfony\Component\Messenger\Stamp\RedeliveryStamp;
use Symfony\Component\Messenger\Transport\Serialization\PhpSerializer;

final class EventTransportTest extends TestCase
{
    public function testARetryKeepsItsPlace(): void
    {
        $json = (string) json_encode(EventFactoryTest::CONNECTED);
        $source = new FakeSource([
            new Entry('s', 'bad', '17', '17', 1),
            new Entry('s', 'new', '{"type":"of_tomorrow"}', '', 1),
            new Entry('s', 'a', $json, $json, 1),
            new Entry('s', 'a', $json, $json, 2),
        ]);
        $transport = new EventTransport($source, new EventFactory());
        [$first] = [...$transport->get()];
        self::assertNull($first->last(RedeliveryStamp::class));
        // What Messenger does with a message that failed.
        $transport->send($first->with(new DelayStamp(1500), new RedeliveryStamp(1)));
        $transport->reject($first);
        [$second] = [...$transport->get()];
        self::assertSame(1, $second->last(RedeliveryStamp::class)?->getRetryCount());
        $transport->ack($second);
        self::assertSame([], [...$transport->get()]);
        unset($transport);

        self::assertSame(['dead bad the event is not a JSON object, but int', 'done new', 'retry a', 'done a', 'closed'], $source->log);
        self::assertSame([1.5], $source->pauses);
    }

    public function testARejectedOneIsDone(): void
    {
        $json = (string) json_encode(EventFactoryTest::CONNECTED);
        $source = new FakeSource([new Entry('s', 'a', $json, $json, 1)]);
        $transport = new EventTransport($source, new EventFactory());
        $transport->reject([...$transport->get()][0]);

        self::assertSame(['done a'], $source->log);
    }

    public function testABrokerThatIsAwayIsATransportsException(): void
    {
        $transport = new EventTransport(new FakeSource([new SourceUnavailableException('away.')]), new EventFactory());
        $this->expectException(TransportException::class);
        $transport->get();
    }

    public function testNobodyElseSendsToIt(): void
    {
        $this->expectException(LogicException::class);
        (new EventTransport(new FakeSource([]), new EventFactory()))->send(new Envelope(new \stdClass()));
    }

    public function testTheFactorySaysWhatItCannotConsume(): void
    {
        $factory = new EventTransportFactory(new SourceFactory('terminator', null, [], []), new EventFactory());
        self::assertTrue($factory->supports('snoke-ws://default', []));
        self::assertFalse($factory->supports('redis://default', []));
        $this->expectException(InvalidArgumentException::class);
        $this->expectExceptionMessage('There is nothing to consume from "webhook": write "snoke-ws://redis_stream" or "snoke-ws://rabbitmq"');
        $factory->createTransport('snoke-ws://default', [], new PhpSerializer());
    }
}
