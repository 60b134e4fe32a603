<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Event;

use Snoke\WsBundle\Exception\MalformedEventException;
use Snoke\WsBundle\Exception\UnknownEventTypeException;
use Snoke\WsBundle\Tracing\TraceContext;

/**
 * Makes event objects of the gateway's JSON, and says of anything else what is wrong with it.
 *
 * Fields that it does not know are kept, not refused: a newer gateway may send more.
 */
final class EventFactory implements EventFactoryInterface
{
    private const TYPES = [
        WebsocketConnectionEstablishedEvent::TYPE,
        WebsocketConnectionClosedEvent::TYPE,
        WebsocketMessageReceivedEvent::TYPE,
    ];

    public function __construct(
        private readonly string $traceIdField = 'trace_id',
        private readonly string $traceparentField = 'traceparent',
    ) {
    }

    public function fromJson(string $json, bool $replayed = false, ?string $traceparent = null): WebsocketEvent
    {
        try {
            // Numbers that PHP cannot hold stay exact, as strings.
            $fields = json_decode($json, true, 512, \JSON_THROW_ON_ERROR | \JSON_BIGINT_AS_STRING);
        } catch (\JsonException $exception) {
            throw new MalformedEventException(
                '' === $json ? 'the event is empty' : 'the event is not JSON: ' . $exception->getMessage(),
            );
        }
        if (!\is_array($fields) || !self::isObject($json)) {
            throw new MalformedEventException(sprintf(
                'the event is not a JSON object, but %s',
                \is_array($fields) ? 'a list' : get_debug_type($fields),
            ));
        }

        return $this->make($fields, $json, $replayed, $traceparent);
    }

    public function fromArray(array $fields, bool $replayed = false): WebsocketEvent
    {
        try {
            $json = json_encode(
                $fields,
                \JSON_THROW_ON_ERROR | \JSON_UNESCAPED_SLASHES | \JSON_UNESCAPED_UNICODE | \JSON_PRESERVE_ZERO_FRACTION,
            );
        } catch (\JsonException $exception) {
            throw new MalformedEventException('the event cannot be written as JSON: ' . $exception->getMessage());
        }

        return $this->make($fields, $json, $replayed);
    }

    private static function isObject(string $json): bool
    {
        return str_starts_with(ltrim($json, " \t\n\r"), '{');
    }

    /**
     * @param array<array-key, mixed> $fields
     */
    private function make(
        array $fields,
        string $json,
        bool $replayed,
        ?string $traceparent = null,
    ): WebsocketEvent {
        $type = self::text($fields, 'type');
        if (!\in_array($type, self::TYPES, true)) {
            throw new UnknownEventTypeException(sprintf(
                'events of type "%s" are not known to this version of the bundle',
                self::printable($type),
            ));
        }
        $common = [
            self::text($fields, 'event_id', filled: true),
            self::text($fields, 'connection_id', filled: true),
            self::text($fields, 'user_id'),
            self::subjects($fields),
            self::number($fields, 'connected_at', 0),
            self::number($fields, 'seq', 1),
            // What came beside it is of the span that sent it, which the event cannot know when it is written.
            TraceContext::parse($traceparent)?->format() ?? self::optional($fields, $this->traceparentField),
            self::optional($fields, $this->traceIdField),
            self::optional($fields, 'ordering_key'),
            self::optional($fields, 'ordering_strategy'),
            $replayed,
            $fields,
            $json,
        ];

        return match ($type) {
            WebsocketConnectionEstablishedEvent::TYPE => new WebsocketConnectionEstablishedEvent(...$common),
            WebsocketConnectionClosedEvent::TYPE => new WebsocketConnectionClosedEvent(
                ...$common,
                closeCode: self::number($fields, 'close_code', 0),
                reason: self::optional($fields, 'reason') ?? '',
            ),
            WebsocketMessageReceivedEvent::TYPE => new WebsocketMessageReceivedEvent(
                ...$common,
                message: self::message($fields),
                raw: self::optional($fields, 'raw'),
            ),
        };
    }

    /**
     * @param array<array-key, mixed> $fields
     */
    private static function text(array $fields, string $name, bool $filled = false): string
    {
        if (!\array_key_exists($name, $fields)) {
            throw new MalformedEventException(sprintf('`%s` is missing', $name));
        }
        if (!\is_string($fields[$name])) {
            throw self::wrong($name, 'a string', $fields[$name]);
        }
        if ($filled && '' === $fields[$name]) {
            throw new MalformedEventException(sprintf('`%s` is empty', $name));
        }

        return $fields[$name];
    }

    /**
     * @param array<array-key, mixed> $fields
     */
    private static function optional(array $fields, string $name): ?string
    {
        return isset($fields[$name]) ? self::text($fields, $name) : null;
    }

    /**
     * @param array<array-key, mixed> $fields
     */
    private static function number(array $fields, string $name, int $minimum): int
    {
        if (!\array_key_exists($name, $fields)) {
            throw new MalformedEventException(sprintf('`%s` is missing', $name));
        }
        if (!\is_int($fields[$name])) {
            throw self::wrong($name, 'a whole number', $fields[$name]);
        }
        if ($fields[$name] < $minimum) {
            throw new MalformedEventException(sprintf('`%s` must not be below %d', $name, $minimum));
        }

        return $fields[$name];
    }

    /**
     * @param array<array-key, mixed> $fields
     *
     * @return list<string>
     */
    private static function subjects(array $fields): array
    {
        if (!\array_key_exists('subjects', $fields)) {
            throw new MalformedEventException('`subjects` is missing');
        }
        $subjects = $fields['subjects'];
        if (!\is_array($subjects) || !array_is_list($subjects)) {
            throw self::wrong('subjects', 'a list', $subjects);
        }
        $names = [];
        foreach ($subjects as $index => $subject) {
            if (!\is_string($subject)) {
                throw self::wrong(sprintf('subjects[%d]', $index), 'a string', $subject);
            }
            $names[] = $subject;
        }

        return $names;
    }

    /**
     * @param array<array-key, mixed> $fields
     *
     * @return array<array-key, mixed>
     */
    private static function message(array $fields): array
    {
        if (!\array_key_exists('message', $fields)) {
            throw new MalformedEventException('`message` is missing');
        }
        // Lists cannot be told from objects here: {} and {"0":…} are lists once PHP has decoded them.
        if (!\is_array($fields['message'])) {
            throw self::wrong('message', 'an object', $fields['message']);
        }

        return $fields['message'];
    }

    private static function wrong(string $name, string $wanted, mixed $value): MalformedEventException
    {
        $type = match (true) {
            !\is_array($value) => get_debug_type($value),
            array_is_list($value) => 'list',
            default => 'object',
        };

        return new MalformedEventException(sprintf('`%s` must be %s, but is of type %s', $name, $wanted, $type));
    }

    /**
     * Cuts what goes to logs to a length and to letters that cannot break their lines.
     */
    private static function printable(string $type): string
    {
        return substr((string) preg_replace('/[^\x21-\x7e]/', '?', $type), 0, 64);
    }
}
