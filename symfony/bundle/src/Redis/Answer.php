<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Redis;

use Snoke\WsBundle\Exception\RedisException;

/**
 * Reads answers of Redis as what its documentation says they are.
 *
 * @internal
 */
final class Answer
{
    /**
     * @throws RedisException
     */
    public static function text(mixed $answer): string
    {
        return \is_scalar($answer) ? (string) $answer : throw self::unexpected('a text', $answer);
    }

    /**
     * @throws RedisException
     */
    public static function number(mixed $answer): int
    {
        return \is_int($answer) || is_numeric($answer) ? (int) $answer : throw self::unexpected('a number', $answer);
    }

    /**
     * @return list<mixed> none for nil
     *
     * @throws RedisException
     */
    public static function items(mixed $answer): array
    {
        return match (true) {
            null === $answer => [],
            \is_array($answer) => array_values($answer),
            default => throw self::unexpected('a list', $answer),
        };
    }

    /**
     * @return list<string> without those that are nil
     *
     * @throws RedisException
     */
    public static function texts(mixed $answer): array
    {
        $texts = [];
        foreach (self::items($answer) as $item) {
            if (null !== $item) {
                $texts[] = self::text($item);
            }
        }

        return $texts;
    }

    /**
     * Names and values, which Redis gives in turn.
     *
     * @return array<array-key, mixed>
     *
     * @throws RedisException
     */
    public static function facts(mixed $answer): array
    {
        $facts = [];
        foreach (array_chunk(self::items($answer), 2) as $pair) {
            if (2 === \count($pair)) {
                $facts[self::text($pair[0])] = $pair[1];
            }
        }

        return $facts;
    }

    /**
     * The answer itself is not shown: it may hold what clients say.
     */
    private static function unexpected(string $expected, mixed $answer): RedisException
    {
        return new RedisException(sprintf('Redis answers with %s where %s was expected', get_debug_type($answer), $expected));
    }
}
