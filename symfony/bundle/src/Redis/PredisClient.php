<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Redis;

use Predis\Client;
use Predis\Command\CommandInterface;
use Predis\Command\RawCommand;
use Predis\CommunicationException;
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

    public static function connect(RedisDsn $dsn, float $timeoutSeconds, float $readSeconds): Client
    {
        $parameters = 0 === $dsn->port
            ? ['scheme' => 'unix', 'path' => $dsn->host]
            : ['scheme' => $dsn->tls ? 'tls' : 'tcp', 'host' => $dsn->host, 'port' => $dsn->port];

        return new Client($parameters + array_filter([
            'username' => $dsn->user,
            'password' => $dsn->password,
            'database' => 0 === $dsn->database ? null : $dsn->database,
            'timeout' => $timeoutSeconds,
            'read_write_timeout' => $readSeconds,
        ], static fn ($value): bool => null !== $value), ['exceptions' => false]);
    }

    public function call(string $command, string|int|float ...$arguments): mixed
    {
        return $this->guarded(static fn (Client $redis): mixed => self::plain(
            $redis->executeCommand(self::command($command, ...array_values($arguments))),
        ));
    }

    public function pipeline(array $commands): array
    {
        if ([] === $commands) {
            return [];
        }

        return $this->guarded(static function (Client $redis) use ($commands): array {
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
            } catch (ServerException $exception) {
                throw new RedisException(self::text($exception->getMessage()));
            } catch (CommunicationException $exception) {
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
