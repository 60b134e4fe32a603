<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Redis;

use Snoke\WsBundle\Exception\RedisException;

/**
 * Commands by ext-redis.
 *
 * @internal
 */
final class PhpRedisClient implements RedisClientInterface
{
    private \Redis|\RedisCluster|null $redis = null;
    private bool $wasUsed = false;

    /**
     * @param \Closure(): (\Redis|\RedisCluster) $connect
     */
    public function __construct(
        private readonly \Closure $connect,
        private readonly string $address,
        private readonly float $readSeconds,
    ) {
    }

    /**
     * Connects to the server, the master that Sentinels tell of, or the cluster.
     */
    public static function connect(RedisDsn $dsn, float $timeoutSeconds, float $readSeconds): \Redis|\RedisCluster
    {
        if ($dsn->isCluster) {
            $scheme = $dsn->tls ? 'tls://' : '';

            return new \RedisCluster(
                null,
                array_map(static fn (array $node): string => $scheme . $node[0] . ':' . $node[1], $dsn->nodes),
                $timeoutSeconds,
                $readSeconds,
                false,
                null === $dsn->user ? $dsn->password : [$dsn->user, (string) $dsn->password],
                $dsn->tls ? $dsn->tlsOptions : null,
            );
        }

        return null === $dsn->master ? self::server($dsn, $timeoutSeconds, $readSeconds) : Sentinels::master(
            $dsn,
            static fn (RedisDsn $server): \Redis => self::server($server, $timeoutSeconds, $readSeconds),
            static fn (\Redis $redis, string $command, string ...$arguments): mixed => $redis->rawCommand($command, ...$arguments),
        );
    }

    private static function server(RedisDsn $dsn, float $timeoutSeconds, float $readSeconds): \Redis
    {
        $redis = new \Redis();
        [$host, $port] = $dsn->nodes[0];
        $tls = $dsn->tls ? [['stream' => $dsn->tlsOptions]] : [];
        // Its warnings say no more than its exceptions.
        @$redis->connect(($dsn->tls ? 'tls://' : '') . $host, $port, $timeoutSeconds, null, 0, $readSeconds, ...$tls);
        self::withoutRetries($redis);
        if (null !== $dsn->password) {
            $redis->auth(null === $dsn->user ? $dsn->password : [$dsn->user, $dsn->password]);
        }
        if (0 !== $dsn->database) {
            $redis->select($dsn->database);
        }

        return $redis;
    }

    /**
     * By itself ext-redis connects again in the middle of a command, and then waits for an answer to what it has not
     * sent on the new connection.
     */
    private static function withoutRetries(\Redis $redis): void
    {
        if (\defined('Redis::OPT_MAX_RETRIES')) {
            $redis->setOption(\Redis::OPT_MAX_RETRIES, 0);
        }
    }

    public function call(string $command, string|int|float ...$arguments): mixed
    {
        return $this->guarded(static function (\Redis|\RedisCluster $redis) use ($command, $arguments): mixed {
            $redis->clearLastError();
            $answer = $redis instanceof \RedisCluster
                ? $redis->rawCommand(CommandKey::of($command, $arguments), $command, ...$arguments)
                : $redis->rawCommand($command, ...$arguments);
            if (false === $answer && null !== $error = $redis->getLastError()) {
                throw self::refused($error);
            }

            return self::plain($answer);
        });
    }

    public function pipeline(array $commands): array
    {
        if ([] === $commands) {
            return [];
        }

        return $this->guarded(static function (\Redis|\RedisCluster $redis) use ($commands): array {
            $redis->clearLastError();
            if ($redis instanceof \RedisCluster) {
                $answers = [];
                foreach ($commands as $command) {
                    $name = (string) array_shift($command);
                    $answers[] = $redis->rawCommand(CommandKey::of($name, $command), $name, ...$command);
                }
            } else {
                $redis->multi(\Redis::PIPELINE);
                foreach ($commands as $command) {
                    $redis->rawCommand(...$command);
                }
                $answers = $redis->exec();
                if (!\is_array($answers) || \count($answers) !== \count($commands)) {
                    throw new \RedisException('Connection lost');
                }
            }
            if (null !== $error = $redis->getLastError()) {
                throw self::refused($error);
            }

            return array_map(self::plain(...), array_values($answers));
        });
    }

    public function disconnect(): void
    {
        try {
            $this->redis?->close();
        } catch (\Throwable) {
            // It was lost already.
        }
        $this->redis = null;
        $this->wasUsed = false;
    }

    /**
     * @template T
     *
     * @param \Closure(\Redis|\RedisCluster): T $run
     *
     * @return T
     */
    private function guarded(\Closure $run): mixed
    {
        $isSecond = false;
        while (true) {
            $start = microtime(true);
            $wasUsed = $this->wasUsed;
            try {
                $result = $run($this->redis ??= ($this->connect)());
                $this->wasUsed = true;

                return $result;
            } catch (RedisException $exception) {
                // An answer, if an unkind one. What has become a replica is not asked again.
                if ($exception->isLost || 'READONLY' === $exception->code()) {
                    $this->disconnect();
                } else {
                    $this->wasUsed = true;
                }
                throw $exception;
            } catch (\RedisException | \RedisClusterException $exception) {
                $this->disconnect();
                // After a time-out the command may well be under way; and a server that hangs would hang again.
                $isTimeout = microtime(true) - $start >= $this->readSeconds * 0.9;
                if ($isSecond || !$wasUsed || $isTimeout) {
                    throw new RedisException(sprintf('Redis at %s %s: %s', $this->address, $isTimeout ? 'does not answer in time' : 'cannot be reached', self::text($exception->getMessage())), true, $exception);
                }
                $isSecond = true;
            }
        }
    }

    /**
     * ext-redis says false for nil, and true for OK.
     */
    private static function plain(mixed $answer): mixed
    {
        return match (true) {
            false === $answer => null,
            true === $answer => 'OK',
            \is_array($answer) => array_map(self::plain(...), $answer),
            default => $answer,
        };
    }

    private static function refused(string $error): RedisException
    {
        return new RedisException(self::text($error));
    }

    /**
     * Redis repeats the arguments of a command that it does not know.
     */
    private static function text(string $message): string
    {
        return rtrim(explode('with args beginning with', $message)[0], ' ,');
    }
}
