<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Consumer;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Consumer\SourceFactory;
use Snoke\WsBundle\Exception\InvalidSettingException;

/**
 * What a worker reads, by its settings and options; nothing is connected to.
 */
final class SourceFactoryTest extends TestCase
{
    /**
     * @dataProvider selections
     *
     * @param list<string> $only
     * @param list<string> $shards
     */
    #[DataProvider('selections')]
    public function testWhatIsRead(string $type, mixed $partitions, array $only, array $shards, string $expected): void
    {
        $source = $this->factory($partitions)->create($type, $only, 'one', $shards);

        self::assertMatchesRegularExpression('/ (?:streams|queues) ' . preg_quote($expected, '/') . '(?:, as |$)/', $source->describe());
    }

    /**
     * @return iterable<string, array{string, mixed, list<string>, list<string>, string}>
     */
    public static function selections(): iterable
    {
        yield 'no shards' => ['redis_stream', [], [], [], 'ws.events, ws.inbox'];
        yield 'a pattern' => ['redis_stream', ['ws.inbox.*'], [], [], 'ws.events, ws.inbox, ws.inbox.*'];
        yield 'all shards, and what was left' => ['redis_stream', 3, [], [], 'ws.events, ws.inbox, ws.inbox.0, ws.inbox.1, ws.inbox.2'];
        yield 'a variable' => ['redis_stream', '2', [], [], 'ws.events, ws.inbox, ws.inbox.0, ws.inbox.1'];
        yield 'some shards' => ['redis_stream', 16, [], ['2-3', '9'], 'ws.inbox.2, ws.inbox.3, ws.inbox.9'];
        yield 'some shards and a stream' => ['redis_stream', 16, ['ws.events'], ['15'], 'ws.events, ws.inbox.15'];
        yield 'a stream alone' => ['redis_stream', 16, ['ws.events'], [], 'ws.events'];
        yield 'queues' => ['rabbitmq', 0, [], [], 'ws.events, ws.inbox'];
        yield 'queues of shards' => ['rabbitmq', 2, [], [], 'ws.events, ws.inbox.0, ws.inbox.1'];
        yield 'some queues of shards' => ['rabbitmq', '16', [], ['1,3'], 'ws.inbox.1, ws.inbox.3'];
        yield 'queues and a name' => ['rabbitmq', 16, ['ws.events'], ['0'], 'ws.events, ws.inbox.0'];
    }

    /**
     * @dataProvider mistakes
     *
     * @param list<string> $shards
     */
    #[DataProvider('mistakes')]
    public function testMistakesAreNamed(string $type, mixed $partitions, array $shards, string $message): void
    {
        $this->expectException(InvalidSettingException::class);
        $this->expectExceptionMessage($message);
        $this->factory($partitions)->create($type, [], null, $shards);
    }

    /**
     * @return iterable<string, array{string, mixed, list<string>, string}>
     */
    public static function mistakes(): iterable
    {
        yield 'shards without a number' => ['redis_stream', ['ws.inbox.*'], ['0'], '--shards needs to know how many there are'];
        yield 'too many' => ['redis_stream', 1025, [], '"snoke_ws.events.redis_stream.partitions" is 1025, and must be from 0 to 1024'];
        yield 'a word in the environment' => ['rabbitmq', 'many', [], '"snoke_ws.events.rabbitmq.partitions" must be how many shards there are'];
        yield 'no names' => ['redis_stream', [17], [], '"snoke_ws.events.redis_stream.partitions" must be how many shards there are, or a list of names'];
        yield 'beyond the last' => ['rabbitmq', 4, ['4'], 'the shards are those from 0 to 3'];
    }

    private function factory(mixed $partitions): SourceFactory
    {
        return new SourceFactory('core', null, [
            'dsn' => 'redis://127.0.0.1:1', 'stream' => 'ws.events', 'inbox_stream' => 'ws.inbox', 'partitions' => $partitions,
            'group' => 'g', 'consumer' => null, 'batch' => 20, 'claim_idle_seconds' => 60, 'max_deliveries' => 5,
            'dead_letter_stream' => 'ws.dlq', 'delete_after_ack' => true,
        ], [
            'dsn' => 'amqp://127.0.0.1:1', 'exchange' => 'ws.events', 'routing_key' => 'ws.events', 'queue' => 'ws.events',
            'inbox_exchange' => 'ws.inbox', 'inbox_exchange_type' => 'direct', 'inbox_routing_key' => 'ws.inbox',
            'inbox_queue' => 'ws.inbox', 'partitions' => $partitions, 'inbox_single_active_consumer' => false,
            'declare' => true, 'prefetch' => 20, 'max_deliveries' => 5, 'dead_letter_exchange' => 'ws.dlq',
            'dead_letter_queue' => 'ws.dlq',
        ]);
    }
}
