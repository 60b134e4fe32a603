<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Redis;

use Snoke\WsBundle\Exception\RedisException;

/**
 * Commands to one Redis, whichever library sends them.
 *
 * Answers are as Redis gives them: strings, integers, lists, null for nil, "OK" for a status.
 */
interface RedisClientInterface
{
    /**
     * Runs one command, connecting first if need be.
     *
     * A connection that was kept and turns out to be lost is made again, once, and the command repeated. A command that
     * Redis had done before the connection broke is then done twice.
     *
     * @throws RedisException
     */
    public function call(string $command, string|int|float ...$arguments): mixed;

    /**
     * Runs commands in one round trip; in a cluster one after the other.
     *
     * @param list<non-empty-list<string|int|float>> $commands
     *
     * @return list<mixed> an answer for each
     *
     * @throws RedisException if one was refused; the others were run all the same
     */
    public function pipeline(array $commands): array;

    /**
     * Closes the connection; the next command makes a new one.
     */
    public function disconnect(): void;
}
