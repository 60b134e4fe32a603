<?php

declare(strict_types=1);

namespace App\Tests;

use Snoke\WsBundle\Tests\Integration\App\Process;
use Snoke\WsBundle\Tests\Support\RedisServer;
use Snoke\WsBundle\Tests\Support\Server;

/**
 * Core mode by Redis.
 */
final class CoreRedisTest extends StackTestCase
{
    protected static function kind(): string
    {
        return 'redis';
    }

    public function testAKilledConsumerLosesNothing(): void
    {
        $run = bin2hex(random_bytes(4));
        $client = self::$stack->connect('5');
        for ($n = 0; $n < 60; ++$n) {
            if (20 === $n || 40 === $n) {
                self::$stack->stopConsumer(\SIGKILL);
            }
            $client->send(json_encode(['type' => 'note', 'run' => $run, 'n' => $n], \JSON_THROW_ON_ERROR));
            if (22 === $n) {
                self::$stack->startConsumer();
            }
        }
        self::$stack->startConsumer();
        $this->waitForAll($run, 60, 90);
        $client->close();
    }

    public function testAPoisonEntryGoesToTheDeadLetters(): void
    {
        $redis = self::redis();
        $before = $redis->xLen('ws.dlq');
        $redis->xAdd('ws.inbox', '*', ['data' => '{"no":"event"']);
        $redis->xAdd('ws.inbox', '*', ['other' => 'field']);
        $this->sendAndWait(3);
        self::assertSame($before + 2, self::redis()->xLen('ws.dlq'));
    }

    public function testARestartOfRedisLosesNothing(): void
    {
        $run = bin2hex(random_bytes(4));
        $client = self::$stack->connect('5');
        self::$stack->redis->stop();
        for ($n = 0; $n < 10; ++$n) {
            $client->send(json_encode(['type' => 'note', 'run' => $run, 'n' => $n], \JSON_THROW_ON_ERROR));
        }
        self::$stack->redis->start();
        $this->waitForAll($run, 10);
        $client->close();
        $this->sendAndWait(3);
    }

    public function testTheInboxCanHaveAConsumerOfItsOwn(): void
    {
        self::$stack->stopConsumer();
        $run = bin2hex(random_bytes(4));
        $client = self::$stack->connect('5');
        $client->send(json_encode(['type' => 'note', 'run' => $run, 'n' => 0], \JSON_THROW_ON_ERROR));
        $client->close();
        Server::wait('the entry', static fn (): bool => self::redis()->xLen('ws.inbox') > 0);
        $done = self::$stack->run([\PHP_BINARY, \dirname(__DIR__) . '/bin/ws_inbox_consumer.php', '--limit=1', '--time-limit=20', '-v']);
        self::assertSame(0, $done['exit'], $done['output'] . $done['errors']);
        $this->waitForAll($run, 1);
        self::assertGreaterThan(0, self::redis()->xLen('ws.events'), 'connects are left to the other');
        self::$stack->startConsumer();
    }

    /**
     * Guards against a worker that stays when it is stopped at the moment in which its broker goes, as containers are:
     * PHP could lose a signal that came while an extension threw.
     */
    public function testAWorkerEndsTogetherWithItsBroker(): void
    {
        $redis = new RedisServer();
        $output = Server::directory();
        // With debug on, where more happens between the signal and its handler.
        $env = ['WS_REDIS_DSN' => $redis->dsn(), 'APP_ENV' => 'dev', 'APP_DEBUG' => '1', 'APP_VAR_DIR' => $output] + self::$stack->variables();
        for ($round = 1; $round <= 8; ++$round) {
            $worker = new Process([\PHP_BINARY, \dirname(__DIR__) . '/bin/console', 'ws:consume', '-vv'], $env, $output . '/' . $round);
            $worker->waitFor('Quit with');
            $client = new \Redis();
            $client->connect('127.0.0.1', $redis->port);
            for ($n = 1; $n <= 6; ++$n) {
                $client->xAdd('ws.events', '*', ['data' => json_encode([
                    'type' => 'connected', 'event_id' => "e$round-$n", 'connection_id' => 'c', 'user_id' => '1',
                    'subjects' => ['chat'], 'connected_at' => 1700000000, 'seq' => 1,
                ], \JSON_THROW_ON_ERROR)]);
            }
            usleep(20_000 * $round);
            $worker->signal(\SIGTERM);
            $redis->stop();
            self::assertSame(0, $worker->wait(5), $worker->output());
            $redis->start();
        }
        $redis->remove();
        exec('rm -rf ' . escapeshellarg($output));
    }

    private function sendAndWait(int $count): void
    {
        $run = bin2hex(random_bytes(4));
        $client = self::$stack->connect('5');
        for ($n = 0; $n < $count; ++$n) {
            $client->send(json_encode(['type' => 'note', 'run' => $run, 'n' => $n], \JSON_THROW_ON_ERROR));
        }
        $this->waitForAll($run, $count);
        $client->close();
    }

    /**
     * Waits until every message of a run was handled.
     */
    private function waitForAll(string $run, int $count, float $seconds = 30): void
    {
        $seen = [];
        try {
            Server::wait('all messages', static function () use ($run, $count, &$seen): bool {
                $seen = [];
                foreach (self::redis()->xRange('demo.inbox', '-', '+') as $fields) {
                    $message = json_decode($fields['data'], true)['message'];
                    if ($run === ($message['run'] ?? null)) {
                        $seen[$message['n']] = true;
                    }
                }

                return \count($seen) === $count;
            }, $seconds);
        } catch (\RuntimeException $exception) {
            $missing = array_diff(range(0, $count - 1), array_keys($seen));
            self::fail(sprintf("Missing: %s\n%s\n%s", implode(' ', $missing), self::$stack->consumerOutput(), $exception->getMessage()));
        }
        self::assertCount($count, $seen);
    }

    private static function redis(): \Redis
    {
        $redis = new \Redis();
        $redis->connect('127.0.0.1', self::$stack->redis->port);

        return $redis;
    }
}
