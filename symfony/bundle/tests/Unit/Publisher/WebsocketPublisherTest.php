<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Publisher;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Psr\Log\AbstractLogger;
use Snoke\WsBundle\Amqp\AmqpPublisherInterface;
use Snoke\WsBundle\Amqp\AmqpTarget;
use Snoke\WsBundle\Exception\InvalidPushException;
use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Publisher\PublishResult;
use Snoke\WsBundle\Publisher\Push;
use Snoke\WsBundle\Publisher\Transport\HttpTransport;
use Snoke\WsBundle\Publisher\Transport\RabbitMqTransport;
use Snoke\WsBundle\Publisher\Transport\RedisStreamTransport;
use Snoke\WsBundle\Publisher\Transport\TransportInterface;
use Snoke\WsBundle\Publisher\WebsocketPublisher;
use Snoke\WsBundle\Redis\RedisClientInterface;
use Snoke\WsBundle\Test\InMemoryTransport;
use Snoke\WsBundle\Tracing\ActiveSpan;
use Snoke\WsBundle\Tracing\RecordingTracer;
use Snoke\WsBundle\Tracing\Span;
use Snoke\WsBundle\Tracing\SpanBuffer;
use Snoke\WsBundle\Tracing\SpanExporterInterface;
use Snoke\WsBundle\Tracing\SpanKind;
use Snoke\WsBundle\Tracing\TraceContextInterface;
use Snoke\WsBundle\User\UserIdResolverInterface;
use Symfony\Component\HttpClient\MockHttpClient;
use Symfony\Component\HttpClient\Response\MockResponse;
use Symfony\Component\Security\Core\User\InMemoryUser;
use Symfony\Component\Security\Core\User\UserInterface;

final class WebsocketPublisherTest extends TestCase
{
    public function testUsersAreResolvedAndPrefixed(): void
    {
        $transport = new InMemoryTransport();
        $ids = new class implements UserIdResolverInterface {
            public function resolve(UserInterface|string|int $user): string
            {
                return $user instanceof UserInterface ? 'id-of-' . $user->getUserIdentifier() : (string) $user;
            }
        };
        $publisher = new WebsocketPublisher($transport, 'u/', $ids);
        $publisher->toUser(new InMemoryUser('alice', null), 1);
        $publisher->toUser(42, 1);

        self::assertSame([['u/id-of-alice'], ['u/42']], array_map(static fn ($push) => $push->subjects, $transport->pushes()));
    }

    public function testATraceIsSentAlong(): void
    {
        $transport = new InMemoryTransport();
        $trace = new class implements TraceContextInterface {
            /** @var array<string, mixed> */
            public array $attributes = [];

            public function traceparent(): ?string
            {
                return null;
            }

            public function produce(
                string $name,
                array $attributes,
                callable $operation,
                SpanKind $kind = SpanKind::Producer,
            ): mixed {
                $span = new ActiveSpan('00-1-2-01');
                $result = $operation($span);
                $this->attributes = $span->attributes() + $attributes + ['name' => $name];

                return $result;
            }
        };
        (new WebsocketPublisher($transport, trace: $trace))->send(['a', 'b'], 'hunter2');

        self::assertSame('00-1-2-01', $transport->pushes()[0]->traceparent);
        self::assertSame(['ws.publish', 2], [$trace->attributes['name'], $trace->attributes['wsgw.push.subjects']]);
        self::assertStringNotContainsString('hunter2', json_encode($trace->attributes));
    }

    /**
     * @dataProvider answers
     */
    #[DataProvider('answers')]
    public function testASpanOverHttpIsOneOfAnHttpClient(MockResponse $answer, ?int $status, ?string $error): void
    {
        $spans = [];
        $buffer = new SpanBuffer(new class ($spans) implements SpanExporterInterface {
            /**
             * @param list<Span> $spans
             */
            public function __construct(private array &$spans)
            {
            }

            public function export(array $spans): void
            {
                $this->spans = $spans;
            }
        });
        $transport = new HttpTransport(new MockHttpClient($answer), 'https://user:hunter2@gateway.example/base', '/internal/publish', 'hunter2', retries: 0);
        try {
            (new WebsocketPublisher($transport, trace: new RecordingTracer($buffer)))->send(['user:1'], 'hunter2');
            self::assertNull($error);
        } catch (PublishException) {
            self::assertNotNull($error);
        }
        $buffer->flush();

        self::assertCount(1, $spans);
        self::assertSame(['ws.publish', SpanKind::Client, $error], [$spans[0]->name, $spans[0]->kind, $spans[0]->error]);
        $attributes = $spans[0]->attributes;
        ksort($attributes);
        self::assertSame([
            'http.request.method' => 'POST',
        ] + array_filter(['http.response.status_code' => $status]) + [
            'server.address' => 'gateway.example',
            'server.port' => 443,
            'url.full' => 'https://gateway.example/base/internal/publish',
        ] + array_filter(['wsgw.push.connections' => 200 === $status ? 3 : null]) + [
            'wsgw.push.subjects' => 1,
        ], $attributes);
        self::assertStringNotContainsString('hunter2', serialize($spans));
    }

    /**
     * @return iterable<string, array{MockResponse, ?int, ?string}>
     */
    public static function answers(): iterable
    {
        yield 'taken' => [new MockResponse('{"sent":3}'), 200, null];
        yield 'refused' => [new MockResponse('', ['http_code' => 401]), 401, '401'];
        yield 'broken' => [new MockResponse('', ['error' => 'away']), null, PublishException::class];
    }

    public function testASpanOverABrokerIsOneOfAProducer(): void
    {
        $transport = new RedisStreamTransport($this->createStub(RedisClientInterface::class), 'ws.outbox');
        self::assertSame(SpanKind::Producer, $transport->spanKind());
        self::assertSame([
            'messaging.system' => 'redis',
            'messaging.operation.name' => 'xadd',
            'messaging.operation.type' => 'send',
            'messaging.destination.name' => 'ws.outbox',
        ], $transport->spanAttributes());

        $amqp = $this->createStub(AmqpPublisherInterface::class);
        $same = new RabbitMqTransport($amqp, new AmqpTarget('ws.outbox', 'ws.outbox', true, 5.0));
        self::assertSame('ws.outbox:ws.outbox', $same->spanAttributes()['messaging.destination.name']);
        $other = new RabbitMqTransport($amqp, new AmqpTarget('pushes', 'eu', true, 5.0));
        self::assertSame('pushes:eu', $other->spanAttributes()['messaging.destination.name']);
    }

    public function testAFailureIsLoggedWithoutThePayloadAndPasses(): void
    {
        $logger = new class extends AbstractLogger {
            public string $text = '';

            public function log($level, $message, array $context = []): void
            {
                $this->text .= $level . ' ' . $message . ' ' . json_encode($context) . "\n";
            }
        };
        $transport = new class implements TransportInterface {
            public function publish(Push $push): PublishResult
            {
                throw new PublishException('It is away.', 'http');
            }
        };
        try {
            (new WebsocketPublisher($transport, logger: $logger))->send(['room:7'], 'hunter2');
            self::fail('The failure did not pass.');
        } catch (PublishException) {
        }

        self::assertStringContainsString('error', $logger->text);
        self::assertStringContainsString('room:7', $logger->text);
        self::assertStringNotContainsString('hunter2', $logger->text);
    }

    public function testAUserWithoutAnIdIsNobody(): void
    {
        $this->expectException(InvalidPushException::class);
        (new WebsocketPublisher(new InMemoryTransport()))->toUser(' ', 1);
    }
}
