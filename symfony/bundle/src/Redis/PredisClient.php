<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Redis;

use Predis\Client;
use Predis\ClientException;
use Predis\Command\CommandInterface;
use Predis\Command\RawCommand;
use Predis\CommunicationException;
use Predis\Connection\Aggregate\RedisCluster as OldRedisCluster;
use Predis\Connection\AggregateConnectionInterface;
use Predis\Connection\Cluster\RedisCluster;
use Predis\Pipeline\Pipeline;
use Predis\Response\ErrorInterface;
use Predis\Response\ServerException;
use Predis\Response\Status;
use Snoke\WsBundle\Exception\RedisException;

/**
 * Commands by Predis.
 *
 * @internal
 */
final class PredisClient implements RedisClientInterface
{
    private ?Client $redis = null;
    private bool $wasUsed = false;

    /**
     * @param \Closure(): Client $connect
     */
    public function __construct(
        private readonly \Closure $connect,
        private readonly string $address,
        private readonly float $readSeconds,
    ) {
    }

    /**
     * Makes a client of the server, the master that Sentinels tell of, or the cluster.
     */
    public static function connect(RedisDsn $dsn, float $timeoutSeconds, float $readSeconds): Client
    {
        if ($dsn->isCluster) {
            $common = self::parameters($dsn, $timeoutSeconds, $readSeconds);

            // The nodes that are found later get the common ones, too.
            return new Client(
                array_map(static fn (array $node): array => ['host' => $node[0], 'port' => $node[1]] + $common, $dsn->nodes),
                ['cluster' => 'redis', 'parameters' => $common, 'exceptions' => false],
            );
        }

        return null === $dsn->master ? self::server($dsn, $timeoutSeconds, $readSeconds) : Sentinels::master(
            $dsn,
            static fn (RedisDsn $server): Client => self::server($server, $timeoutSeconds, $readSeconds),
            static fn (Client $redis, string $command, string ...$arguments): mixed => $redis->executeCommand(self::command($command, ...$arguments)),
        );
    }

    private static function server(RedisDsn $dsn, float $timeoutSeconds, float $readSeconds): Client
    {
        [$host, $port] = $dsn->nodes[0];
        $place = 0 === $port ? ['scheme' => 'unix', 'path' => $host] : ['host' => $host, 'port' => $port];

        return new Client($place + self::parameters($dsn, $timeoutSeconds, $readSeconds), ['exceptions' => false]);
    }

    /**
     * @return array<string, mixed>
     */
    private static function parameters(RedisDsn $dsn, float $timeoutSeconds, float $readSeconds): array
    {
        if ($dsn->tls && version_compare(Client::VERSION, '2.0.0', '<')) {
            // It sets certificates, and what is not verified, for all streams of the process.
            throw new RedisException('Predis before 2.0 cannot keep TLS to one connection: "composer require predis/predis:^2.0", or install ext-redis.', true);
        }

        return array_filter([
            'scheme' => $dsn->tls ? 'tls' : 'tcp',
            'ssl' => $dsn->tls ? $dsn->tlsOptions : null,
            'username' => $dsn->user,
            'password' => $dsn->password,
            'database' => 0 === $dsn->database ? null : $dsn->database,
            'timeout' => $timeoutSeconds,
            'read_write_timeout' => $readSeconds,
        ], static fn ($value): bool => null !== $value);
    }

    public function call(string $command, string|int|float ...$arguments): mixed
    {
        return $this->guarded(static fn (Client $redis): mixed => self::run($redis, $command, ...$arguments));
    }

    public function pipeline(array $commands): array
    {
        if ([] === $commands) {
            return [];
        }

        return $this->guarded(static function (Client $redis) use ($commands): array {
            if ($redis->getConnection() instanceof AggregateConnectionInterface) {
                return array_map(static fn (array $command): mixed => self::run($redis, (string) array_shift($command), ...$command), $commands);
            }
            $answers = $redis->pipeline(static function (Pipeline $pipe) use ($commands): void {
                foreach ($commands as $command) {
                    $pipe->executeCommand(self::command(...$command));
                }
            });

            return array_map(self::plain(...), Answer::items($answers));
        });
    }

    public function disconnect(): void
    {
        $this->redis?->disconnect();
        $this->redis = null;
        $this->wasUsed = false;
    }

    /**
     * @template T
     *
     * @param \Closure(Client): T $run
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
                // What has become a replica is not asked again.
                if ($exception->isLost || 'READONLY' === $exception->code()) {
                    $this->disconnect();
                }
                throw $exception;
            } catch (ServerException $exception) {
                throw new RedisException(self::text($exception->getMessage()));
            } catch (CommunicationException | ClientException $exception) {
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

    private static function run(Client $redis, string $command, string|int|float ...$arguments): mixed
    {
        $raw = self::command($command, ...array_values($arguments));
        $connection = $redis->getConnection();
        if ($connection instanceof RedisCluster || $connection instanceof OldRedisCluster) {
            // It knows few commands by itself.
            $key = CommandKey::of($command, $arguments);
            $slot = $connection->getClusterStrategy()->getSlotByKey($key);
            $raw->setSlot($slot);
            if ('SCAN' === strtoupper($command)) {
                // Any node answers that; another command is sent to the right one.
                $guide = self::command('EXISTS', $key);
                $guide->setSlot($slot);
                $redis->executeCommand($guide);
            }
        }

        return self::plain($redis->executeCommand($raw));
    }

    private static function command(string|int|float $name, string|int|float ...$arguments): CommandInterface
    {
        /** @var CommandInterface $command */
        $command = RawCommand::create((string) $name, ...array_values($arguments));

        return $command;
    }

    private static function plain(mixed $answer): mixed
    {
        return match (true) {
            $answer instanceof ErrorInterface => throw new RedisException(self::text($answer->getMessage())),
            $answer instanceof Status => $answer->getPayload(),
            \is_array($answer) => array_map(self::plain(...), $answer),
            default => $answer,
        };
    }

    /**
     * Redis repeats the arguments of a command that it does not know.
     */
    private static function text(string $message): string
    {
        return rtrim(explode('with args beginning with', $message)[0], ' ,');
    }
}
