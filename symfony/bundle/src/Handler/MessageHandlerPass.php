<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Handler;

use Snoke\WsBundle\Attribute\AsWsMessageHandler;
use Snoke\WsBundle\Event\WebsocketEvent;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Symfony\Component\DependencyInjection\ChildDefinition;
use Symfony\Component\DependencyInjection\Compiler\CompilerPassInterface;
use Symfony\Component\DependencyInjection\Compiler\ServiceLocatorTagPass;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\DependencyInjection\Exception\InvalidArgumentException;
use Symfony\Component\DependencyInjection\Reference;

/**
 * Collects the services that handle messages, and says at compile time of one that could not be called why.
 */
final class MessageHandlerPass implements CompilerPassInterface
{
    public const TAG = 'snoke_ws.message_handler';
    public const ROUTER = 'snoke_ws.message_router';

    /**
     * Makes the attribute work on every autoconfigured service.
     */
    public static function registerAttribute(ContainerBuilder $container): void
    {
        $container->registerAttributeForAutoconfiguration(
            AsWsMessageHandler::class,
            // Symfony reads the last type, to know what the attribute may stand on.
            static function (
                ChildDefinition $definition,
                AsWsMessageHandler $attribute,
                \ReflectionClass|\ReflectionMethod $reflector,
            ): void {
                $method = $attribute->method;
                if ($reflector instanceof \ReflectionMethod) {
                    if (null !== $method) {
                        throw new \LogicException(sprintf(
                            '#[AsWsMessageHandler] on %s::%s() must not name a method: it is that method.',
                            $reflector->class,
                            $reflector->name,
                        ));
                    }
                    $method = $reflector->name;
                }
                $definition->addTag(self::TAG, [
                    'type' => $attribute->type,
                    'priority' => $attribute->priority,
                    'method' => $method,
                ]);
            },
        );
    }

    public function process(ContainerBuilder $container): void
    {
        if (!$container->hasDefinition(self::ROUTER)) {
            return;
        }
        $denormalizes = $container->has('serializer');
        $found = [];
        $services = [];
        foreach ($container->findTaggedServiceIds(self::TAG, true) as $id => $tags) {
            $class = $container->getParameterBag()->resolveValue($container->findDefinition($id)->getClass());
            $reflection = $container->getReflectionClass(\is_string($class) ? $class : null, false)
                ?? throw new InvalidArgumentException(sprintf('The class of the service "%s" does not exist.', $id));
            $services[$id] = new Reference($id);
            foreach ($tags as $tag) {
                $method = \is_string($tag['method'] ?? null) ? $tag['method'] : '__invoke';
                $found[(int) ($tag['priority'] ?? 0)][] = [
                    $tag['type'] ?? null,
                    $id,
                    $method,
                    $this->parameters($id, $reflection, $method, $denormalizes),
                ];
            }
        }
        krsort($found);
        $container->getDefinition(self::ROUTER)
            ->setArgument('$handlers', array_merge(...array_values($found)))
            ->setArgument('$services', ServiceLocatorTagPass::register($container, $services));
    }

    /**
     * @param \ReflectionClass<object> $class
     *
     * @return list<string> `event`, `message`, or a class to denormalize the message to
     */
    private function parameters(string $id, \ReflectionClass $class, string $method, bool $denormalizes): array
    {
        $name = sprintf('%s::%s()', $class->name, $method);
        if (!$class->hasMethod($method)) {
            throw new InvalidArgumentException(sprintf(
                'The service "%s" handles messages by %s, which does not exist: add it, or name another by `method`.',
                $id,
                $name,
            ));
        }
        $reflection = $class->getMethod($method);
        if (!$reflection->isPublic()) {
            throw new InvalidArgumentException(sprintf('%s handles messages and must be public.', $name));
        }
        $parameters = [];
        foreach ($reflection->getParameters() as $parameter) {
            $type = $parameter->getType();
            $class = $type instanceof \ReflectionNamedType ? $type->getName() : null;
            if (null !== $class && is_a(WebsocketMessageReceivedEvent::class, $class, true)) {
                $parameters[] = 'event';
            } elseif ('array' === $class || null === $type || 'mixed' === $class) {
                $parameters[] = 'message';
            } elseif (null !== $class && class_exists($class) && !is_a($class, WebsocketEvent::class, true)) {
                if (!$denormalizes) {
                    throw new InvalidArgumentException(sprintf(
                        'Parameter $%s of %s is a class, which messages are made to by symfony/serializer: run '
                        . '"composer require symfony/serializer-pack", or take an array.',
                        $parameter->name,
                        $name,
                    ));
                }
                $parameters[] = $class;
            } elseif ($parameter->isOptional()) {
                break;
            } else {
                throw new InvalidArgumentException(sprintf(
                    'Parameter $%s of %s must be a %s, an array, or a class of yours.',
                    $parameter->name,
                    $name,
                    WebsocketMessageReceivedEvent::class,
                ));
            }
        }

        return $parameters;
    }
}
