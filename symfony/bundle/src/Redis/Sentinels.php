<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Redis;

use Snoke\WsBundle\Exception\RedisException;

/**
 * Asks Sentinels where their master is, whichever library does it.
 *
 * @internal
 */
final class Sentinels
{
    /**
     * @template T of object
     *
     * @param \Closure(RedisDsn): T                $open connects to one server
     * @param \Closure(T, string, string...): mixed $call runs a command there
     *
     * @return T connected to the master
     *
     * @throws RedisException if none of them knows one
     */
    public static function master(RedisDsn $dsn, \Closure $open, \Closure $call): object
    {
        $previous = null;
        foreach ($dsn->sentinels() as $sentinel) {
            try {
                /** @var mixed $address */
                $address = $call($open($sentinel), 'SENTINEL', 'get-master-addr-by-name', (string) $dsn->master);
                if (!\is_array($address) || !isset($address[0], $address[1])) {
                    continue;
                }
                $server = $open($dsn->at(Answer::text($address[0]), Answer::number($address[1])));
                /** @var mixed $role */
                $role = $call($server, 'ROLE');
                // A Sentinel may not have heard of a failover yet. Who must not ask gets no list.
                if (!\is_array($role) || 'master' === ($role[0] ?? null)) {
                    return $server;
                }
            } catch (\Exception $exception) {
                $previous = $exception;
            }
        }
        throw new RedisException(
            sprintf('No Sentinel of %s leads to a master "%s"%s', $dsn->address(), $dsn->master, null === $previous ? '.' : ': ' . $previous->getMessage()),
            true,
            $previous,
        );
    }
}
