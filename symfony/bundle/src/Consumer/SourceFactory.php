<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Consumer;

use PhpAmqpLib\Connection\AMQPConnectionFactory;
use Psr\Cache\CacheItemPoolInterface;
use Snoke\WsBundle\Amqp\AmqpDsn;
use Snoke\WsBundle\Consumer\Amqp\AmqpBinding;
use Snoke\WsBundle\Consumer\Amqp\AmqpConsumerInterface;
use Snoke\WsBundle\Consumer\Amqp\AmqpSettings;
use Snoke\WsBundle\Consumer\Amqp\AmqpSource;
use Snoke\WsBundle\Consumer\Amqp\ExtAmqpConsumer;
use Snoke\WsBundle\Consumer\Amqp\PhpAmqpLibConsumer;
use Snoke\WsBundle\Consumer\Redis\RedisStreamSettings;
use Snoke\WsBundle\Consumer\Redis\RedisStreamSource;
use Snoke\WsBundle\Exception\MissingPackageException;
use Snoke\WsBundle\Redis\RedisClientFactory;
use Snoke\WsBundle\Setting\Setting;

/**
 * Makes sources of what is below `snoke_ws.events`.
 */
final class SourceFactory
{
    public const TYPES = ['redis_stream', 'rabbitmq'];

    /** For connecting to Redis, and for each of its answers. */
    private const TIMEOUT_SECONDS = 5.0;
    /** For those of commands that wait for entries, at most a second. */
    private const READ_SECONDS = 8.0;

    /**
     * @param array{
     *     dsn: ?string, stream: ?string, inbox_stream: ?string, partitions: mixed, group: ?string, consumer: ?string,
     *     batch: int, claim_idle_seconds: int|float, max_deliveries: int, dead_letter_stream: ?string, delete_after_ack: bool,
     * } $redis `events.redis_stream`
     * @param array{
     *     dsn: ?string, exchange: string, routing_key: string, queue: string, inbox_exchange: string,
     *     inbox_exchange_type: ?string, inbox_routing_key: string, inbox_queue: string, partitions: mixed,
     *     inbox_single_active_consumer: bool, declare: bool, prefetch: int,
     *     max_deliveries: int, dead_letter_exchange: ?string, dead_letter_queue: ?string,
     * } $rabbitmq `events.rabbitmq`
     */
    public function __construct(
        private readonly ?string $mode,
        private readonly ?string $type,
        #[\SensitiveParameter] private readonly array $redis,
        #[\SensitiveParameter] private readonly array $rabbitmq,
        private readonly ?CacheItemPoolInterface $counts = null,
    ) {
    }

    /**
     * Gives the configured type, which need not be one that a worker reads.
     */
    public function configuredType(): string
    {
        return Setting::type('events', $this->mode, $this->type);
    }

    /**
     * @param list<string> $only     streams or queues to read instead of the configured ones
     * @param string|null  $consumer name of the worker instead of the configured one
     * @param list<string> $shards   shards of the messages, such as "2" or "0-3", to read instead of the configured ones
     */
    public function create(string $type, array $only = [], ?string $consumer = null, array $shards = []): EventSourceInterface
    {
        return 'rabbitmq' === Setting::choice('events.type', $type, self::TYPES)
            ? $this->rabbitmq($only, $shards)
            : $this->redis($only, $consumer, $shards);
    }

    public function maxDeliveries(string $type): int
    {
        return 'rabbitmq' === $type ? $this->rabbitmq['max_deliveries'] : $this->redis['max_deliveries'];
    }

    /**
     * Seconds within which a worker has to show that it lives.
     */
    public function keepAliveSeconds(string $type): float
    {
        return 'rabbitmq' === $type ? 15.0 : max(1.0, min(15.0, $this->redis['claim_idle_seconds'] / 3));
    }

    /**
     * @param list<string> $only
     * @param list<string> $shards
     */
    private function redis(array $only, ?string $consumer, array $shards): RedisStreamSource
    {
        $inbox = Setting::filled('events.redis_stream.inbox_stream', $this->redis['inbox_stream'], 'name a stream, such as "ws.inbox"');
        $partitions = $this->redis['partitions'];
        $count = Shards::count('events.redis_stream.partitions', $partitions);
        if ([] !== $shards) {
            $streams = [...$only, ...Shards::names($inbox, Shards::select($shards, $count))];
        } else {
            $streams = [] !== $only ? $only : [
                Setting::filled('events.redis_stream.stream', $this->redis['stream'], 'name a stream, such as "ws.events"'),
                // With shards, for what is left from before there were any.
                $inbox,
                ...Shards::names($inbox, Shards::all($count)),
                ...self::patterns($partitions),
            ];
        }
        $consumer = (string) $consumer;
        $consumer = '' !== $consumer ? $consumer : (string) $this->redis['consumer'];

        return new RedisStreamSource(
            RedisClientFactory::create($this->redis['dsn'], 'events.redis_stream.dsn', self::TIMEOUT_SECONDS, self::READ_SECONDS),
            new RedisStreamSettings(
                array_values(array_unique($streams)),
                Setting::filled('events.redis_stream.group', $this->redis['group'], 'name a consumer group, such as "symfony"'),
                '' !== $consumer ? $consumer : ConsumerName::own(),
                $this->redis['batch'],
                (float) $this->redis['claim_idle_seconds'],
                Setting::filled('events.redis_stream.dead_letter_stream', $this->redis['dead_letter_stream'], 'name a stream, such as "ws.dlq"'),
                $this->redis['delete_after_ack'],
            ),
        );
    }

    /**
     * @return list<string> of a list of names and patterns
     */
    private static function patterns(mixed $partitions): array
    {
        $patterns = [];
        foreach (\is_array($partitions) ? $partitions : [] as $pattern) {
            if (!\is_string($pattern) || '' === $pattern) {
                throw Setting::invalid('events.redis_stream.partitions', 'must be how many shards there are, or a list of names of streams');
            }
            $patterns[] = $pattern;
        }

        return $patterns;
    }

    /**
     * @param list<string> $only
     * @param list<string> $shards
     */
    private function rabbitmq(array $only, array $shards): AmqpSource
    {
        $settings = $this->rabbitmq;
        $inboxType = Setting::choice('events.rabbitmq.inbox_exchange_type', $settings['inbox_exchange_type'], ['direct', 'topic', 'fanout']);
        $count = Shards::count('events.rabbitmq.partitions', $settings['partitions']);
        $inbox = static fn (string $part): AmqpBinding => new AmqpBinding(
            $settings['inbox_queue'] . $part,
            $settings['inbox_exchange'],
            $settings['inbox_routing_key'] . $part,
            $inboxType,
            $settings['inbox_single_active_consumer'],
        );
        $sharded = array_map($inbox, Shards::names('', Shards::all($count)));
        $bindings = [
            new AmqpBinding($settings['queue'], $settings['exchange'], $settings['routing_key']),
            ...(0 === $count ? [$inbox('')] : $sharded),
        ];
        if ([] !== $only || [] !== $shards) {
            $known = [];
            foreach ($bindings as $binding) {
                $known[$binding->queue] = $binding;
            }
            $bindings = array_map(static fn (string $queue): AmqpBinding => $known[$queue] ?? new AmqpBinding($queue), $only);
            foreach ([] === $shards ? [] : Shards::select($shards, $count) as $shard) {
                $bindings[] = $sharded[$shard];
            }
        }
        foreach ($bindings as $binding) {
            Setting::filled('events.rabbitmq.queue', $binding->queue, 'name a queue, such as "ws.events"');
        }

        return new AmqpSource(self::amqp(AmqpDsn::parse($settings['dsn'], 'events.rabbitmq.dsn')), new AmqpSettings(
            $bindings,
            $settings['declare'],
            $settings['prefetch'],
            Setting::filled('events.rabbitmq.dead_letter_exchange', $settings['dead_letter_exchange'], 'name an exchange, such as "ws.dlq"'),
            Setting::filled('events.rabbitmq.dead_letter_queue', $settings['dead_letter_queue'], 'name a queue, such as "ws.dlq"'),
        ), $this->counts);
    }

    /**
     * Prefers php-amqplib, which unlike ext-amqp sends heartbeats while a handler runs, and hears of a deleted queue.
     */
    public static function amqp(AmqpDsn $dsn): AmqpConsumerInterface
    {
        return match (true) {
            class_exists(AMQPConnectionFactory::class) => new PhpAmqpLibConsumer($dsn),
            \extension_loaded('amqp') => new ExtAmqpConsumer($dsn),
            default => throw MissingPackageException::for(
                '"snoke_ws.events.rabbitmq"',
                '"composer require php-amqplib/php-amqplib", or installing ext-amqp',
            ),
        };
    }
}
