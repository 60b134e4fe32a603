<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Consumer\Redis\RedisStreamSettings;
use Snoke\WsBundle\Consumer\Redis\RedisStreamSource;
use Snoke\WsBundle\Consumer\Shards;
use Snoke\WsBundle\Redis\PhpRedisClient;
use Snoke\WsBundle\Redis\PredisClient;
use Snoke\WsBundle\Redis\RedisDsn;
use Snoke\WsBundle\Tests\Integration\App\Application;
use Snoke\WsBundle\Tests\Support\Gateway;
use Snoke\WsBundle\Tests\Support\RedisServer;
use Snoke\WsBundle\Tests\Support\Server;
use Snoke\WsBundle\Tests\Unit\Event\EventFactoryTest;
use Snoke\WsBundle\Token\TokenFactory;

/**
 * ws:consume reads the streams of a real Redis, filled by the real gateway or by hand.
 */
final class ConsumeRedisTest extends TestCase
{
    private const SECRET = '0123456789abcdef0123456789abcdef';

    private RedisServer $server;
    private \Redis $redis;
    private Application $app;
    private ?Gateway $gateway = null;

    protected function setUp(): void
    {
        $this->server = new RedisServer();
        $this->connect();
        $this->app = $this->application();
    }

    protected function tearDown(): void
    {
        putenv('ORDERING_PARTITIONS');
        $this->gateway?->remove();
        $this->app->remove();
        $this->server->remove();
    }

    /**
     * @dataProvider formats
     */
    #[DataProvider('formats')]
    public function testWhatTheGatewayWritesIsHandled(string $format): void
    {
        $this->gateway = new Gateway(<<<YAML
              mode: core
              stages: [{ auth: { jwt: { algorithm: HS256, public_key: "0123456789abcdef0123456789abcdef" } } }, { fan_out: {} }]
              events: { redis_stream: { dsn: "{$this->server->dsn()}", format: {$format} } }
            YAML);
        $client = $this->gateway->connect((new TokenFactory('HS256', self::SECRET))->forUser('42')->value);
        $client->send('{"type":"chat","n":1}');
        $client->send('{"type":"chat","n":2}');
        $client->close();

        $process = $this->app->run('ws:consume', '--limit=4', '--time-limit=15', '-v', '--no-ansi');
        self::assertSame(0, $process->wait(), $process->output());
        $events = $this->app->events();
        self::assertSame(['connected -', 'disconnected -', 'message_received chat 1', 'message_received chat 2'], self::sorted($events));
        // Of one stream in its order, and what was first on the whole first.
        self::assertSame('connected -', $events[0]);
        self::assertLessThan(array_search('message_received chat 2', $events, true), array_search('message_received chat 1', $events, true));
        self::assertStringContainsString('message_received (chat) of user 42 handled in', $process->output());
        self::assertStringContainsString('Stopped after 4 entries.', $process->output());
        self::assertSame([0, 0], [$this->redis->xLen('ws.inbox'), $this->redis->xLen('ws.events')]);
        self::assertSame([0, 0], [$this->pending('ws.inbox'), $this->pending('ws.events')]);
    }

    /**
     * @return iterable<string, array{string}>
     */
    public static function formats(): iterable
    {
        yield 'json' => ['json'];
        yield 'messenger' => ['messenger'];
    }

    public function testWhatIsNoEventGoesToTheDeadLettersAndTheRestGoesOn(): void
    {
        $bad = [
            ['data' => '17'], ['data' => 'null'], ['data' => '"text"'], ['data' => '{'], ['data' => ''], ['data' => "\xff\xfe"],
            ['other' => 'x'], ['message' => '5'], ['message' => 'no'], ['message' => '{"headers":{}}'],
            ['message' => '{"body":"[]","headers":{}}'], ['data' => '{"type":"connected"}'],
        ];
        foreach ($bad as $fields) {
            $this->redis->xAdd('ws.inbox', '*', $fields);
        }
        $this->redis->xAdd('ws.inbox', '*', ['data' => '{"type":"of_tomorrow"}']);
        $this->add(1);
        $process = $this->app->run('ws:consume', '--limit=14', '--time-limit=15', '-v');

        self::assertSame(['message_received chat 1'], $this->app->events(), $process->output());
        self::assertSame(0, $this->pending('ws.inbox'));
        $letters = array_values($this->redis->xRange('ws.dlq', '-', '+'));
        self::assertCount(\count($bad), $letters);
        self::assertSame('the event is not a JSON object, but int', $letters[0]['reason']);
        self::assertSame('17', $letters[0]['raw']);
        self::assertSame('the entry has neither a field `data` nor `message`', $letters[6]['reason']);
        self::assertSame('{"other":"x"}', $letters[6]['raw']);
        self::assertSame('`event_id` is missing', $letters[11]['reason']);
        self::assertEqualsWithDelta(time(), (int) $letters[0]['failed_at'], 20);
        self::assertSame(['redis', 'ws.inbox', '1'], [$letters[0]['sink'], $letters[0]['stream'], $letters[0]['deliveries']]);
    }

    public function testAWorkerThatIsKilledLosesNothingAndKeepsTheOrder(): void
    {
        for ($n = 0; $n < 3000; ++$n) {
            $this->add($n);
        }
        $handled = 0;
        for ($kill = 0; $kill < 3; ++$kill) {
            $process = $this->app->start('ws:consume');
            $handled = \count($this->app->waitForEvents($handled + 100));
            $process->signal(\SIGKILL);
            self::assertSame(128 + \SIGKILL, $process->wait());
        }
        self::assertLessThan(3000, $handled, 'something must be left');
        $process = $this->app->start('ws:consume', '--time-limit=20');
        $process->waitFor('Quit with');
        Server::wait('the rest', fn (): bool => 0 === $this->redis->xLen('ws.inbox') && 0 === $this->pending('ws.inbox'));
        $process->signal(\SIGTERM);
        self::assertSame(0, $process->wait());

        $numbers = $this->numbers();
        self::assertSame(range(0, 2999), array_values(array_unique($numbers)), 'all of them, in their order');
        self::assertLessThanOrEqual(3003, \count($numbers), 'at most the one in hand is handled twice');
        $consumers = $this->redis->xInfo('CONSUMERS', 'ws.inbox', 'symfony');
        self::assertLessThanOrEqual(1, \count($consumers), 'dead consumers are forgotten');
    }

    public function testAnEntryThatKillsItsWorkersIsTheOnlyOneGivenUp(): void
    {
        $this->add(0);
        $this->add(1, 'die');
        for ($n = 2; $n < 12; ++$n) {
            $this->add($n);
        }
        for ($run = 0; $run < 6; ++$run) {
            $code = $this->app->run('ws:consume', '--time-limit=3', '--limit=11')->wait();
            if (0 === $code) {
                break;
            }
            self::assertSame(128 + \SIGKILL, $code);
        }
        self::assertSame([0, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], $this->numbers());
        $letters = array_values($this->redis->xRange('ws.dlq', '-', '+'));
        self::assertCount(1, $letters);
        self::assertSame('given to workers 5 times, and none came back from it', $letters[0]['reason']);
        self::assertSame('id-1', $letters[0]['event_id']);
    }

    public function testAFailingEntryHoldsBackItsOwnStreamOnly(): void
    {
        $this->app->remove();
        $this->app = $this->application(['max_deliveries' => 3]);
        $this->add(1, 'fail');
        $this->add(2);
        $this->add(3, 'chat', 'ws.events');
        $process = $this->app->run('ws:consume', '--time-limit=10', '--limit=5', '-v');

        $numbers = $this->numbers();
        self::assertContains(3, \array_slice($numbers, 0, 2), $process->output());
        self::assertSame([1, 1, 1, 2], array_values(array_diff($numbers, [3])));
        self::assertStringContainsString('failed by RuntimeException, try 1 of 3', $process->output());
        $letters = array_values($this->redis->xRange('ws.dlq', '-', '+'));
        self::assertSame(['3 tries failed, the last by RuntimeException'], array_column($letters, 'reason'));
        self::assertSame(['id-1'], array_column($letters, 'event_id'));
    }

    public function testSigtermEndsItWithTheEntryInHandAndGivesTheOthersBack(): void
    {
        for ($n = 0; $n < 10; ++$n) {
            $this->add($n, 'slow');
        }
        $process = $this->app->start('ws:consume', '--name=elsewhere');
        $this->app->waitForEvents(2);
        $process->signal(\SIGTERM);
        self::assertSame(0, $process->wait());

        $handled = \count($this->app->events());
        self::assertSame(10 - $handled, $this->redis->xLen('ws.inbox'), 'what was begun is acknowledged');
        self::assertStringContainsString('Stopped after ' . $handled . ' entries.', $process->output());
        // Another one need not wait for claim_idle_seconds.
        $started = microtime(true);
        $this->app->run('ws:consume', '--limit=' . (10 - $handled), '--time-limit=40');
        self::assertSame(range(0, 9), $this->numbers());
        self::assertLessThan(30.0, microtime(true) - $started);
    }

    public function testItWaitsForARedisThatIsAway(): void
    {
        $data = Server::directory();
        $this->server->remove();
        $this->server = new RedisServer(['--appendonly', 'yes', '--appendfsync', 'always', '--dir', $data]);
        $this->connect();
        $this->app->remove();
        $this->app = $this->application();
        $process = $this->app->start('ws:consume', '-v');
        for ($n = 0; $n < 20; ++$n) {
            $this->add($n, $n < 10 ? 'chat' : 'slow');
        }
        $this->app->waitForEvents(12);
        // The entry in hand is handled while Redis is away, and acknowledged later.
        $this->server->stop(\SIGKILL);
        $process->waitFor('Trying again in');
        $this->server->start();
        $process->waitFor('connected again');
        $this->connect();
        $this->add(20);
        self::assertCount(21, $this->app->waitForEvents(21));
        Server::wait('acknowledgements', fn (): bool => 0 === $this->pending('ws.inbox'));
        $process->signal(\SIGTERM);

        self::assertSame(0, $process->wait(), $process->output());
        self::assertSame(range(0, 20), $this->numbers(), 'each once, in order');
        exec('rm -rf ' . escapeshellarg($data));
    }

    public function testItGoesOnWithARedisThatCameBackEmpty(): void
    {
        $process = $this->app->start('ws:consume', '-v');
        $this->add(1);
        $this->app->waitForEvents(1);
        $this->server->stop();
        $process->waitFor('Trying again in');
        $this->server->start();
        $this->connect();
        $process->waitFor('connected again');
        $this->add(2);

        self::assertSame(['message_received chat 1', 'message_received chat 2'], $this->app->waitForEvents(2), $process->output());
    }

    public function testAGroupThatIsRemovedIsMadeAgainWhereItWas(): void
    {
        $this->app->remove();
        $this->app = $this->application(['delete_after_ack' => false]);
        $process = $this->app->start('ws:consume', '-v');
        $this->add(1);
        $this->app->waitForEvents(1);
        Server::wait('the acknowledgement', fn (): bool => 0 === $this->pending('ws.inbox'));
        // While it has more of them in hand.
        for ($n = 2; $n < 8; ++$n) {
            $this->add($n, 'slow');
        }
        $this->app->waitForEvents(3);
        $this->redis->xGroup('DESTROY', 'ws.inbox', 'symfony');
        $this->app->waitForEvents(7);
        self::assertSame(range(1, 7), array_values(array_unique($this->numbers())), $process->output());
        self::assertLessThanOrEqual(8, \count($this->numbers()));
        $this->redis->del('ws.inbox', 'ws.events');
        $this->add(8);
        Server::wait('the next one', fn (): bool => \in_array(8, $this->numbers(), true));
    }

    public function testPartitionsAreFoundWhileItRuns(): void
    {
        $this->app->remove();
        $this->app = $this->application(['partitions' => ['ws.inbox.*']]);
        $this->add(1, 'chat', 'ws.inbox.room:1');
        $this->add(9, 'chat', 'ws_inbox.room:1');
        $process = $this->app->start('ws:consume');
        $this->app->waitForEvents(1);
        $this->add(2, 'chat', 'ws.inbox.room:2');
        $this->app->waitForEvents(2);
        $this->add(3, 'chat', 'ws.inbox.room:1');
        $this->app->waitForEvents(3);

        self::assertSame([1, 2, 3], $this->numbers(), $process->output());
    }

    public function testTwoWorkersShareTheShardsAndEachKeyKeepsItsOrder(): void
    {
        putenv('ORDERING_PARTITIONS=4');
        $this->app->remove();
        $this->app = $this->application(['partitions' => '%env(ORDERING_PARTITIONS)%']);
        $this->gateway = new Gateway(<<<YAML
              mode: core
              stages: [{ auth: { jwt: { algorithm: HS256, public_key: "0123456789abcdef0123456789abcdef" } } }, { ordering_key: { strategy: topic, partition_mode: shards, partitions: 4 } }, { fan_out: {} }]
              events: { redis_stream: { dsn: "{$this->server->dsn()}" } }
            YAML);
        $client = $this->gateway->connect((new TokenFactory('HS256', self::SECRET))->forUser('42')->value);
        for ($n = 0; $n < 40; ++$n) {
            $client->send(sprintf('{"type":"chat","topic":"room:%d","n":%d}', $n % 8, $n));
        }
        $client->close();
        $length = fn (int ...$shards): int => array_sum(array_map(fn (int $shard): int => (int) $this->redis->xLen('ws.inbox.' . $shard), $shards));
        Server::wait('all messages', static fn (): bool => 40 === $length(0, 1, 2, 3));
        foreach (range(0, 3) as $shard) {
            foreach ($this->redis->xRange('ws.inbox.' . $shard, '-', '+') as $fields) {
                $event = json_decode($fields['data'], true);
                self::assertSame($shard, Shards::of($event['ordering_key'], 4), $event['ordering_key']);
            }
        }

        // Each takes its own, though the other one runs.
        $of = [$length(0, 1), $length(2, 3)];
        $first = $this->app->start('ws:consume', '--shards=0-1', '--limit=' . $of[0], '--time-limit=20', '--name=one');
        $second = $this->app->start('ws:consume', '--shard=2', '--shards=3', '--limit=' . $of[1], '--time-limit=20', '--name=two');
        self::assertSame([0, 0], [$first->wait(), $second->wait()], $first->output() . $second->output());
        self::assertStringContainsString('ws.inbox.0, ws.inbox.1, as', $first->output());
        self::assertSame(0, $length(0, 1, 2, 3));
        $numbers = $this->chats();
        foreach (range(0, 7) as $room) {
            $ofRoom = array_values(array_filter($numbers, static fn (int $n): bool => $n % 8 === $room));
            self::assertSame(range($room, 39, 8), $ofRoom, 'room ' . $room);
        }
        self::assertGreaterThan(0, (int) $this->redis->xLen('ws.events'), 'nobody was asked to read it');

        // Without a selection one worker reads all, and what was left from before there were shards.
        $this->add(40);
        $this->add(41, 'chat', 'ws.inbox.3');
        $all = $this->app->run('ws:consume', '--limit=4', '--time-limit=20');
        self::assertSame(0, $all->wait(), $all->output());
        self::assertSame([40, 41], \array_slice($this->chats(), 40));
        self::assertStringContainsString('ws.events, ws.inbox, ws.inbox.0, ws.inbox.1, ws.inbox.2, ws.inbox.3, as', $all->output());

        $beyond = $this->app->run('ws:consume', '--shards=0-4');
        self::assertSame(1, $beyond->wait());
        self::assertStringContainsString('the shards are those from 0 to 3', (string) preg_replace('/\s+/', ' ', $beyond->output()));
    }

    public function testAWorkerThatIsKilledInTheMiddleOfItsShardsLosesNothing(): void
    {
        $this->app->remove();
        $this->app = $this->application(['partitions' => 3]);
        for ($n = 0; $n < 300; ++$n) {
            $this->add($n, 'chat', 'ws.inbox.' . ($n % 3));
        }
        $process = $this->app->start('ws:consume', '--shards=0-2');
        $this->app->waitForEvents(30);
        $process->signal(\SIGKILL);
        $process->wait();
        $process = $this->app->start('ws:consume', '--shards=0-2');
        Server::wait('all of them', fn (): bool => 300 === \count(array_unique($this->numbers())));
        $process->signal(\SIGTERM);
        self::assertSame(0, $process->wait(), $process->output());

        $numbers = array_values(array_unique($this->numbers()));
        foreach (range(0, 2) as $shard) {
            self::assertSame(range($shard, 299, 3), array_values(array_filter($numbers, static fn (int $n): bool => $n % 3 === $shard)));
            self::assertSame(0, $this->pending('ws.inbox.' . $shard));
        }
        self::assertLessThanOrEqual(301, \count($this->numbers()), 'at most the one in hand comes again');
    }

    public function testWhatAWorkerElsewhereLeftIsTakenAfterAWhile(): void
    {
        $this->app->remove();
        $this->app = $this->application(['claim_idle_seconds' => 1]);
        $this->add(1);
        $this->add(2);
        $this->redis->xGroup('CREATE', 'ws.inbox', 'symfony', '0');
        $this->redis->xReadGroup('symfony', 'another-host-1', ['ws.inbox' => '>']);
        $this->app->run('ws:consume', '--limit=2', '--time-limit=15');

        self::assertSame([1, 2], $this->numbers());
    }

    public function testALongHandlerKeepsItsEntriesFromOtherWorkers(): void
    {
        $this->app->remove();
        $this->app = $this->application(['claim_idle_seconds' => 3]);
        $this->add(1, 'long');
        $this->add(2);
        $one = $this->app->start('ws:consume', '--limit=2', '--name=one');
        $this->app->waitForEvents(1);
        $two = $this->app->start('ws:consume', '--time-limit=7', '--name=two');

        self::assertSame(0, $one->wait(), $one->output());
        self::assertSame(0, $two->wait());
        self::assertSame([1, 2], $this->numbers(), $two->output());
    }

    public function testTroubleIsSaidWithoutAskingForIt(): void
    {
        $this->app->remove();
        $this->app = new Application(['mode' => 'core', 'transport' => ['redis_stream' => ['dsn' => 'redis://:s3cret@127.0.0.1:1/0']]]);
        $process = $this->app->start('ws:consume');
        $process->waitFor('Redis at 127.0.0.1:1 cannot be reached');
        $process->signal(\SIGTERM);

        self::assertSame(0, $process->wait());
        self::assertStringNotContainsString('s3cret', $process->output());
    }

    public function testTheGatewaysReplayBringsADeadLetterBack(): void
    {
        $this->app->remove();
        $this->app = $this->application(['max_deliveries' => 1]);
        $this->add(1, 'fail');
        $this->app->run('ws:consume', '--limit=1', '--time-limit=15');
        self::assertSame(1, $this->redis->xLen('ws.dlq'));
        $this->gateway = new Gateway(<<<YAML
              mode: core
              stages: [{ fan_out: {} }]
              events: { redis_stream: { dsn: "{$this->server->dsn()}" } }
            YAML);
        $answer = file_get_contents($this->gateway->url() . '/internal/replay/redis', false, stream_context_create(['http' => [
            'method' => 'POST',
            'header' => ['X-API-Key: ' . Gateway::API_KEY, 'Content-Type: application/json'],
            'content' => '{"limit":10}',
        ]]));
        self::assertSame('{"replayed":1}', $answer);
        self::assertSame(0, $this->redis->xLen('ws.dlq'));
        $this->app->run('ws:consume', '--limit=1', '--time-limit=15');

        self::assertSame(['message_received fail 1', 'message_received fail 1 replayed'], $this->app->events());
    }

    public function testAReplayedEventSaysSo(): void
    {
        $this->redis->xAdd('ws.inbox', '*', ['data' => self::json(1, 'chat'), 'replayed' => '1']);
        $this->redis->xAdd('ws.inbox', '*', ['message' => json_encode(['body' => self::json(2, 'chat'), 'headers' => ['replayed' => '1']])]);
        $this->add(3);
        $this->app->run('ws:consume', '--limit=3', '--time-limit=15');

        self::assertSame(['message_received chat 1 replayed', 'message_received chat 2 replayed', 'message_received chat 3'], $this->app->events());
    }

    public function testAMissingStreamIsWaitedFor(): void
    {
        $process = $this->app->start('ws:consume', '--limit=1');
        $process->waitFor('Reading the Redis streams ws.events, ws.inbox');
        Server::wait('the group', fn (): bool => 1 === $this->redis->exists('ws.inbox'));
        $this->add(1);

        self::assertSame(0, $process->wait());
        self::assertSame([1], $this->numbers());
    }

    /**
     * The command takes ext-redis where both are there; this is the whole way by either.
     *
     * @dataProvider libraries
     *
     * @param class-string<PhpRedisClient|PredisClient> $library
     */
    #[DataProvider('libraries')]
    public function testEitherLibrary(string $library): void
    {
        $dsn = RedisDsn::parse($this->server->dsn(), 'events.redis_stream.dsn');
        $client = new $library(static fn (): object => $library::connect($dsn, 5.0, 8.0), 'redis', 8.0);
        $source = new RedisStreamSource($client, new RedisStreamSettings(['ws.inbox', 'ws.inbox.*'], 'group', 'one'));
        $started = microtime(true);
        self::assertNull($source->next(0.3));
        self::assertGreaterThanOrEqual(0.3, microtime(true) - $started);
        $this->add(1);
        $this->add(2);
        $this->redis->xAdd('ws.inbox', '*', ['other' => "\xff"]);
        $entry = $source->next(5.0);
        self::assertSame([self::json(1, 'chat'), 1], [$entry?->body, $entry?->deliveries]);
        self::assertNotNull($entry);
        $source->retry($entry, 0.1);
        $entry = $source->next(5.0);
        self::assertSame([self::json(1, 'chat'), 2], [$entry?->body, $entry?->deliveries]);
        self::assertNotNull($entry);
        $source->keepAlive();
        $source->done($entry);
        $source->close();
        $entry = $source->next(5.0);
        self::assertSame(self::json(2, 'chat'), $entry?->body);
        self::assertNotNull($entry);
        $source->done($entry);
        $entry = $source->next(5.0);
        self::assertNotNull($entry);
        $source->deadLetter($entry, (string) $entry->problem);
        $this->redis->xGroup('DESTROY', 'ws.inbox', 'group');
        $this->add(3);
        self::assertSame(self::json(3, 'chat'), $source->next(5.0)?->body);
        $source->close();

        self::assertSame(1, $this->redis->xLen('ws.dlq'));
        self::assertSame(1, $this->redis->xLen('ws.inbox'));
    }

    /**
     * @return iterable<string, array{class-string<PhpRedisClient|PredisClient>}>
     */
    public static function libraries(): iterable
    {
        yield 'ext-redis' => [PhpRedisClient::class];
        yield 'Predis' => [PredisClient::class];
    }

    public function testWhatCannotBeReadIsSaid(): void
    {
        $process = $this->app->run('ws:consume', '--transport=carrier_pigeon');
        self::assertSame(1, $process->wait());
        self::assertStringContainsString('"redis_stream" or "rabbitmq"', self::unwrapped($process->output()));
        $this->app->remove();
        $this->app = new Application(['events' => ['webhook' => ['secret' => 's']], 'transport' => ['http' => ['base_url' => 'http://x', 'api_key' => 'x']]]);
        $process = $this->app->run('ws:consume');
        self::assertSame(1, $process->wait());
        self::assertStringContainsString('"snoke_ws.events.type" is "webhook"', self::unwrapped($process->output()));
    }

    /**
     * @param array<string, mixed> $redis
     */
    private function application(array $redis = []): Application
    {
        return new Application([
            'mode' => 'core',
            'transport' => ['redis_stream' => ['dsn' => $this->server->dsn()]],
            'events' => ['redis_stream' => $redis],
        ]);
    }

    private function connect(): void
    {
        $this->redis = new \Redis();
        $this->redis->connect('127.0.0.1', $this->server->port);
    }

    private function add(int $n, string $type = 'chat', string $stream = 'ws.inbox'): void
    {
        $this->redis->xAdd($stream, '*', ['data' => self::json($n, $type)]);
    }

    private static function json(int $n, string $type): string
    {
        return (string) json_encode(['event_id' => 'id-' . $n] + EventFactoryTest::message(['type' => $type, 'n' => $n]));
    }

    /**
     * @return list<int> the numbers of messages
     */
    private function chats(): array
    {
        return array_values(array_map(static fn (string $line): int => (int) explode(' ', $line)[2], preg_grep('/ chat /', $this->app->events()) ?: []));
    }

    private function pending(string $stream): int
    {
        return (int) ($this->redis->xPending($stream, 'symfony')[0] ?? 0);
    }

    /**
     * @return list<int>
     */
    private function numbers(): array
    {
        return array_map(static fn (string $line): int => (int) explode(' ', $line)[2], $this->app->events());
    }

    /**
     * @param list<string> $lines
     *
     * @return list<string>
     */
    private static function sorted(array $lines): array
    {
        sort($lines);

        return $lines;
    }

    private static function unwrapped(string $output): string
    {
        return (string) preg_replace('/\s+/', ' ', $output);
    }
}
