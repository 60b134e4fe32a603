<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Event;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Event\EventFactory;
use Snoke\WsBundle\Event\WebsocketConnectionClosedEvent;
use Snoke\WsBundle\Event\WebsocketConnectionEstablishedEvent;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Snoke\WsBundle\Exception\MalformedEventException;
use Snoke\WsBundle\Exception\UnknownEventTypeException;

final class EventFactoryTest extends TestCase
{
    public const CONNECTED = [
        'type' => 'connected',
        'connection_id' => '0192f5a8-3c1e-7b42-9d6f-2a8e5c7b1d30',
        'user_id' => '42',
        'subjects' => ['user:42', 'room:1'],
        'connected_at' => 1700000000,
        'event_id' => '0192f5a8-3c1f-7d10-8a4b-6e9c2f5a7b81',
        'seq' => 1,
    ];

    /**
     * @param array<string, mixed> $message
     *
     * @return array<string, mixed>
     */
    public static function message(array $message = ['type' => 'chat', 'payload' => 'hello']): array
    {
        return ['type' => 'message_received', 'seq' => 2, 'message' => $message, 'raw' => (string) json_encode($message)]
            + self::CONNECTED;
    }

    public function testConnected(): void
    {
        $event = (new EventFactory())->fromJson((string) json_encode(self::CONNECTED));

        self::assertInstanceOf(WebsocketConnectionEstablishedEvent::class, $event);
        self::assertSame('connected', $event->type());
        self::assertSame(self::CONNECTED['event_id'], $event->eventId);
        self::assertSame(self::CONNECTED['connection_id'], $event->connectionId);
        self::assertSame('42', $event->userId);
        self::assertSame(['user:42', 'room:1'], $event->subjects);
        self::assertTrue($event->hasSubject('room:1'));
        self::assertFalse($event->hasSubject('room:2'));
        self::assertSame(1700000000, $event->connectedAt);
        self::assertSame('2023-11-14T22:13:20+00:00', $event->connectedAtTime()->format('c'));
        self::assertSame(1, $event->seq);
        self::assertFalse($event->replayed);
        self::assertNull($event->traceparent);
        self::assertNull($event->orderingKey);
        self::assertSame(self::CONNECTED, $event->fields);
    }

    public function testMessageWithEverything(): void
    {
        $fields = self::message() + [
            'traceparent' => '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
            'trace_id' => '0af7651916cd43dd8448eb211c80319c',
            'ordering_key' => 'room:123',
            'ordering_strategy' => 'topic',
            'of_a_newer_gateway' => ['x' => 1],
        ];
        $json = (string) json_encode($fields);
        $event = (new EventFactory())->fromJson($json, true);

        self::assertInstanceOf(WebsocketMessageReceivedEvent::class, $event);
        self::assertSame(['type' => 'chat', 'payload' => 'hello'], $event->message);
        self::assertSame('chat', $event->messageType());
        self::assertSame('{"type":"chat","payload":"hello"}', $event->raw);
        self::assertSame($event->raw, $event->raw());
        self::assertFalse($event->isBinary());
        self::assertSame($fields['traceparent'], $event->traceparent);
        self::assertSame($fields['trace_id'], $event->traceId);
        self::assertSame('room:123', $event->orderingKey);
        self::assertSame('topic', $event->orderingStrategy);
        self::assertTrue($event->replayed);
        self::assertSame(['x' => 1], $event->fields['of_a_newer_gateway']);
        self::assertSame($json, $event->json());
    }

    public function testBinaryFrame(): void
    {
        $fields = self::message(['type' => 'binary', 'encoding' => 'base64', 'payload' => 'AAH+/w==']);
        unset($fields['raw']);
        $event = (new EventFactory())->fromArray($fields);

        self::assertInstanceOf(WebsocketMessageReceivedEvent::class, $event);
        self::assertTrue($event->isBinary());
        self::assertNull($event->raw);
        self::assertSame("\x00\x01\xfe\xff", $event->raw());
    }

    public function testDisconnected(): void
    {
        $event = (new EventFactory())->fromArray(
            ['type' => 'disconnected', 'close_code' => 1006, 'reason' => 'node_lost', 'seq' => 9007199254740991] + self::CONNECTED,
        );

        self::assertInstanceOf(WebsocketConnectionClosedEvent::class, $event);
        self::assertSame(1006, $event->closeCode);
        self::assertSame('node_lost', $event->reason);
        self::assertTrue($event->isNodeLost());
        self::assertSame(9007199254740991, $event->seq);
    }

    public function testTraceFieldsHaveConfiguredNames(): void
    {
        $event = (new EventFactory('trace', 'parent'))->fromArray(['trace' => 't', 'parent' => 'p', 'trace_id' => 'x'] + self::CONNECTED);

        self::assertSame('t', $event->traceId);
        self::assertSame('p', $event->traceparent);
    }

    public function testTraceContextThatCameBesideTheEventWinsIfItIsAny(): void
    {
        $inside = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
        $beside = '00-0af7651916cd43dd8448eb211c80319c-aaaaaaaaaaaaaaaa-01';
        $json = (string) json_encode(['traceparent' => $inside] + self::CONNECTED);
        $read = static fn (?string $traceparent): ?string => (new EventFactory())->fromJson($json, false, $traceparent)->traceparent;

        self::assertSame([$beside, $inside, $inside], [$read($beside), $read(null), $read('nonsense')]);
    }

    public function testTheExamplesOfTheGatewaysSchemaAreRead(): void
    {
        $schema = json_decode((string) file_get_contents(\dirname(__DIR__, 5) . '/schemas/event.schema.json'), true);
        self::assertGreaterThan(3, \count($schema['examples']));
        self::assertSame(['connected', 'disconnected', 'message_received'], $schema['properties']['type']['enum']);
        foreach ($schema['examples'] as $example) {
            $event = (new EventFactory())->fromArray($example);
            self::assertSame($example['type'], $event->type());
            self::assertSame($example, $event->fields);
        }
    }

    /**
     * A client decides what a message holds: nothing of it may make the event unreadable.
     *
     * @dataProvider messages
     */
    #[DataProvider('messages')]
    public function testAnyMessageOfAClientIsRead(string $json, mixed $expected): void
    {
        $fields = self::message();
        unset($fields['message'], $fields['raw']);
        $text = substr((string) json_encode($fields), 0, -1) . ',"message":' . $json . ',"raw":' . json_encode($json) . '}';
        $event = (new EventFactory())->fromJson($text);

        self::assertInstanceOf(WebsocketMessageReceivedEvent::class, $event);
        self::assertSame($expected, $event->message);
        self::assertSame($json, $event->raw());
    }

    /**
     * @return iterable<string, array{string, mixed}>
     */
    public static function messages(): iterable
    {
        yield 'an empty object' => ['{}', []];
        yield 'keys like those of a list' => ['{"0":1,"1":2}', [1, 2]];
        yield 'a large number keeps its digits' => ['{"n":12345678901234567890}', ['n' => '12345678901234567890']];
        yield 'an empty key' => ['{"":1}', ['' => 1]];
        yield 'a key with a null byte' => ['{"\u0000a":1}', ["\0a" => 1]];
        yield 'as deep as the gateway allows' => [
            '{"a":' . str_repeat('[', 119) . str_repeat(']', 119) . '}',
            ['a' => self::nested(119)],
        ];
    }

    /**
     * @dataProvider malformed
     *
     * @param array<string, mixed>|string $event
     */
    #[DataProvider('malformed')]
    public function testWhatIsWrongIsNamed(array|string $event, string $message): void
    {
        $this->expectException(MalformedEventException::class);
        $this->expectExceptionMessage($message);
        (new EventFactory())->fromJson(\is_string($event) ? $event : (string) json_encode($event));
    }

    /**
     * @return iterable<string, array{array<string, mixed>|string, string}>
     */
    public static function malformed(): iterable
    {
        yield 'nothing' => ['', 'the event is empty'];
        yield 'no JSON' => ['{', 'the event is not JSON'];
        yield 'a number' => ['1', 'the event is not a JSON object, but int'];
        yield 'a text' => ['"x"', 'not a JSON object, but string'];
        yield 'null' => ['null', 'not a JSON object, but null'];
        yield 'a list' => ['[{}]', 'not a JSON object, but a list'];
        foreach (['type', 'connection_id', 'user_id', 'subjects', 'connected_at', 'event_id', 'seq'] as $name) {
            yield 'no ' . $name => [array_diff_key(self::CONNECTED, [$name => 1]), '`' . $name . '` is missing'];
            yield $name . ' of another type' => [[$name => true] + self::CONNECTED, '`' . $name . '` must be'];
        }
        yield 'an empty id' => [['event_id' => ''] + self::CONNECTED, '`event_id` is empty'];
        yield 'a subject that is none' => [['subjects' => ['a', 1]] + self::CONNECTED, '`subjects[1]` must be a string, but is of type int'];
        yield 'subjects with keys' => [['subjects' => ['a' => 'b']] + self::CONNECTED, '`subjects` must be a list, but is of type object'];
        yield 'seq of 0' => [['seq' => 0] + self::CONNECTED, '`seq` must not be below 1'];
        yield 'a fraction' => [['seq' => 1.5] + self::CONNECTED, '`seq` must be a whole number, but is of type float'];
        yield 'no message' => [array_diff_key(self::message(), ['message' => 1]), '`message` is missing'];
        yield 'a message that is none' => [['message' => 'x'] + self::message(), '`message` must be an object, but is of type string'];
        yield 'raw that is none' => [['raw' => 1] + self::message(), '`raw` must be a string'];
        yield 'no close code' => [['type' => 'disconnected'] + self::CONNECTED, '`close_code` is missing'];
    }

    public function testAnUnknownTypeIsNoMistake(): void
    {
        $this->expectException(UnknownEventTypeException::class);
        $this->expectExceptionMessage('events of type "of?tomorrow" are not known');
        (new EventFactory())->fromJson('{"type":"of\ntomorrow"}');
    }

    public function testMessagesOfExceptionsHoldNoValues(): void
    {
        foreach (self::malformed() as [$event]) {
            $event = \is_string($event) ? $event : (string) json_encode(['user_id' => ['s3cret'], 'raw' => ['s3cret']] + $event);
            try {
                (new EventFactory())->fromJson($event);
            } catch (MalformedEventException $exception) {
                self::assertStringNotContainsString('s3cret', $exception->getMessage());
            }
        }
    }

    /**
     * @return list<mixed>
     */
    private static function nested(int $levels): array
    {
        return 1 === $levels ? [] : [self::nested($levels - 1)];
    }
}
