<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Messenger;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Exception\ExceptionInterface;
use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Messenger\WsPush;
use Snoke\WsBundle\Messenger\WsPushHandler;
use Snoke\WsBundle\Publisher\PublishResult;
use Snoke\WsBundle\Publisher\Push;
use Snoke\WsBundle\Publisher\Transport\TransportInterface;
use Snoke\WsBundle\Publisher\WebsocketPublisher;
use Snoke\WsBundle\Test\InMemoryPublisher;
use Symfony\Component\Messenger\Envelope;
use Symfony\Component\Messenger\Exception\UnrecoverableExceptionInterface;
use Symfony\Component\Messenger\Transport\Serialization\PhpSerializer;

final class WsPushHandlerTest extends TestCase
{
    public function testAMessageSurvivesAQueueAndIsPushed(): void
    {
        $publisher = new InMemoryPublisher();
        $serializer = new PhpSerializer();
        $message = $serializer->decode($serializer->encode(new Envelope(new WsPush(['room:7'], ['n' => 1.0]))))->getMessage();
        self::assertInstanceOf(WsPush::class, $message);

        (new WsPushHandler($publisher))($message);

        self::assertSame([['room:7'], ['n' => 1.0]], [$publisher->pushes()[0]->subjects, $publisher->pushes()[0]->payload]);
    }

    /**
     * @dataProvider failures
     */
    #[DataProvider('failures')]
    public function testOnlyWhatWouldBeRefusedAgainIsGivenUp(?int $status, bool $isGivenUp): void
    {
        $transport = new class ($status) implements TransportInterface {
            public function __construct(private readonly ?int $status)
            {
            }

            public function publish(Push $push): PublishResult
            {
                throw new PublishException('No.', 'http', $this->status);
            }
        };
        try {
            (new WsPushHandler(new WebsocketPublisher($transport)))(new WsPush(['a'], 1));
            self::fail('The failure did not pass.');
        } catch (ExceptionInterface $exception) {
            self::assertSame($isGivenUp, $exception instanceof UnrecoverableExceptionInterface);
        }
    }

    /**
     * @return iterable<string, array{?int, bool}>
     */
    public static function failures(): iterable
    {
        foreach ([400, 401, 403] as $status) {
            yield (string) $status => [$status, true];
        }
        foreach ([404, 413, 429, 500, 503] as $status) {
            yield (string) $status => [$status, false];
        }
        yield 'no answer' => [null, false];
    }

    public function testAPushToNobodyIsGivenUp(): void
    {
        $this->expectException(UnrecoverableExceptionInterface::class);
        (new WsPushHandler(new InMemoryPublisher()))(new WsPush([], 1));
    }
}
