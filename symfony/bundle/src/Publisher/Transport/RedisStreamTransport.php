<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Publisher\Transport;

use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Exception\RedisException;
use Snoke\WsBundle\Publisher\PublishResult;
use Snoke\WsBundle\Publisher\Push;
use Snoke\WsBundle\Redis\RedisClientInterface;
use Snoke\WsBundle\Setting\Setting;
use Snoke\WsBundle\Tracing\SpanKind;

/**
 * Pushes by adding to a Redis stream that every gateway reads.
 */
final class RedisStreamTransport implements TracedTransportInterface
{
    private const NAME = 'redis_stream';

    private readonly string $stream;

    /**
     * @param int $maxLength entries that the stream keeps, about; 0 = all
     */
    public function __construct(
        private readonly RedisClientInterface $redis,
        ?string $stream = 'ws.outbox',
        private readonly int $maxLength = 0,
    ) {
        $this->stream = Setting::filled('transport.redis_stream.stream', $stream, 'name a stream, such as "ws.outbox"');
        Setting::number('transport.redis_stream.max_length', $maxLength, 0, \PHP_INT_MAX);
    }

    public function publish(Push $push): PublishResult
    {
        $limit = $this->maxLength > 0 ? ['MAXLEN', '~', $this->maxLength] : [];
        try {
            $id = $this->redis->call('XADD', $this->stream, ...[...$limit, '*', 'data', $push->json]);
        } catch (RedisException $exception) {
            throw new PublishException(sprintf('Redis did not take the push: %s', $exception->getMessage()), self::NAME, null, $exception);
        }
        if (!\is_string($id)) {
            throw new PublishException('Redis did not take the push: it answered no entry id.', self::NAME);
        }

        return new PublishResult(self::NAME, null, $id);
    }

    public function spanKind(): SpanKind
    {
        return SpanKind::Producer;
    }

    public function spanAttributes(): array
    {
        return [
            'messaging.system' => 'redis',
            'messaging.operation.name' => 'xadd',
            'messaging.operation.type' => 'send',
            'messaging.destination.name' => $this->stream,
        ];
    }
}
