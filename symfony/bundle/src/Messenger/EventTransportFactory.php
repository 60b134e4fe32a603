<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Messenger;

use Psr\Log\LoggerInterface;
use Psr\Log\NullLogger;
use Snoke\WsBundle\Consumer\SourceFactory;
use Snoke\WsBundle\Event\EventFactoryInterface;
use Symfony\Component\Messenger\Exception\InvalidArgumentException;
use Symfony\Component\Messenger\Transport\Serialization\SerializerInterface;
use Symfony\Component\Messenger\Transport\TransportFactoryInterface;
use Symfony\Component\Messenger\Transport\TransportInterface;

/**
 * Makes transports of `snoke-ws://redis_stream`, `snoke-ws://rabbitmq` and `snoke-ws://default` (= `events.type`).
 *
 * The option `streams` names streams or queues to read instead of the configured ones.
 */
final class EventTransportFactory implements TransportFactoryInterface
{
    private const SCHEME = 'snoke-ws://';

    public function __construct(
        private readonly SourceFactory $sources,
        private readonly EventFactoryInterface $events,
        private readonly LoggerInterface $logger = new NullLogger(),
    ) {
    }

    /**
     * @param array<array-key, mixed> $options
     */
    public function createTransport(
        #[\SensitiveParameter] string $dsn,
        array $options,
        SerializerInterface $serializer,
    ): TransportInterface {
        $type = strstr(substr($dsn, \strlen(self::SCHEME)) . '?', '?', true);
        $type = 'default' === $type ? $this->sources->configuredType() : $type;
        if (!\in_array($type, SourceFactory::TYPES, true)) {
            throw new InvalidArgumentException(sprintf(
                'There is nothing to consume from "%s": write "%s%s", or let "snoke_ws.events.type" be one of them.',
                $type,
                self::SCHEME,
                implode('" or "' . self::SCHEME, SourceFactory::TYPES),
            ));
        }

        return new EventTransport(
            $this->sources->create($type, self::names('streams', $options), null, self::names('shards', $options)),
            $this->events,
            $this->logger,
        );
    }

    /**
     * @param array<array-key, mixed> $options
     */
    public function supports(#[\SensitiveParameter] string $dsn, array $options): bool
    {
        return str_starts_with($dsn, self::SCHEME);
    }

    /**
     * @param array<array-key, mixed> $options
     *
     * @return list<string>
     */
    private static function names(string $option, array $options): array
    {
        $names = $options[$option] ?? [];

        return array_map(
            static fn (mixed $name): string => \is_string($name) || \is_int($name)
                ? (string) $name
                : throw new InvalidArgumentException(sprintf('The option "%s" must be a name, or a list of names.', $option)),
            \is_array($names) ? array_values($names) : [$names],
        );
    }
}
