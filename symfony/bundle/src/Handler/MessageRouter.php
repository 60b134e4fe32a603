<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Handler;

use Psr\Container\ContainerInterface;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Snoke\WsBundle\Exception\UnprocessableEventException;
use Symfony\Component\Serializer\Exception\ExceptionInterface as SerializerException;
use Symfony\Component\Serializer\Exception\NotNormalizableValueException;
use Symfony\Component\Serializer\Normalizer\DenormalizerInterface;

/**
 * Calls the handlers of a message's type, highest priority first; a listener of received messages like any other.
 *
 * The first one that throws ends it, and the event is tried again as a whole.
 */
final class MessageRouter
{
    /**
     * @param list<array{?string, string, string, list<string>}> $handlers type, service, method, parameters
     */
    public function __construct(
        private readonly array $handlers,
        private readonly ContainerInterface $services,
        private readonly ?DenormalizerInterface $denormalizer = null,
    ) {
    }

    public function __invoke(WebsocketMessageReceivedEvent $event): void
    {
        $type = $event->messageType();
        foreach ($this->handlers as [$wanted, $service, $method, $parameters]) {
            if (null !== $wanted && $wanted !== $type) {
                continue;
            }
            $arguments = [];
            foreach ($parameters as $parameter) {
                $arguments[] = match ($parameter) {
                    'event' => $event,
                    'message' => $event->message,
                    default => $this->denormalize($event, $parameter),
                };
            }
            $handler = [$this->services->get($service), $method];
            if (!\is_callable($handler)) {
                throw new \LogicException(sprintf('The service "%s" has no method %s().', $service, $method));
            }
            $handler(...$arguments);
        }
    }

    /**
     * Whether any handler is there for messages of this type.
     */
    public function handles(?string $type): bool
    {
        foreach ($this->handlers as [$wanted]) {
            if (null === $wanted || $wanted === $type) {
                return true;
            }
        }

        return false;
    }

    private function denormalize(WebsocketMessageReceivedEvent $event, string $class): object
    {
        try {
            $object = $this->denormalizer?->denormalize($event->message, $class, 'json')
                ?? throw new \LogicException('Messages become objects by symfony/serializer, which is not configured.');

            return \is_object($object) ? $object : throw new NotNormalizableValueException('It became no object.');
        } catch (SerializerException | \TypeError $exception) {
            // The client's doing: trying again would not help. The words of the exception may hold the message.
            throw new UnprocessableEventException(
                sprintf('the message is no %s (%s)', $class, (new \ReflectionClass($exception))->getShortName()),
            );
        }
    }
}
