<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer\Redis;

use Snoke\WsBundle\Consumer\Entry;
use Snoke\WsBundle\Redis\Answer;

/**
 * Reads an entry's fields, in both formats of the gateway (`events.redis_stream.format`): `json` has the event in
 * `data`, `messenger` has it in the `body` within `message`.
 *
 * @internal
 */
final class EntryReader
{
    /**
     * @param mixed       $fields      names and values in turn, as Redis gives them
     * @param string|null $destination what spans call the stream
     */
    public static function read(string $stream, string $id, mixed $fields, int $deliveries, ?string $destination = null): Entry
    {
        $values = array_map(Answer::text(...), Answer::facts($fields));
        if (isset($values['data'])) {
            $replayed = \in_array($values['replayed'] ?? '', ['1', 'true'], true);

            return new Entry($stream, $id, $values['data'], $values['data'], $deliveries, $replayed, destination: $destination);
        }
        if (!isset($values['message'])) {
            $raw = json_encode($values, \JSON_INVALID_UTF8_SUBSTITUTE | \JSON_UNESCAPED_SLASHES | \JSON_FORCE_OBJECT);

            return new Entry(
                $stream,
                $id,
                null,
                (string) $raw,
                $deliveries,
                problem: 'the entry has neither a field `data` nor `message`',
            );
        }
        $message = json_decode($values['message'], true);
        if (!\is_array($message) || !\is_string($message['body'] ?? null)) {
            return new Entry(
                $stream,
                $id,
                null,
                $values['message'],
                $deliveries,
                problem: 'the field `message` is no JSON object with a text `body`',
            );
        }
        $headers = \is_array($message['headers'] ?? null) ? $message['headers'] : [];
        $traceparent = $headers['traceparent'] ?? null;

        return new Entry(
            $stream,
            $id,
            $message['body'],
            $message['body'],
            $deliveries,
            \in_array($headers['replayed'] ?? null, ['1', 'true', true], true),
            traceparent: \is_string($traceparent) ? $traceparent : null,
            destination: $destination,
        );
    }
}
