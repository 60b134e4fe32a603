<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Handler;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Event\EventFactory;
use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Snoke\WsBundle\Exception\UnprocessableEventException;
use Snoke\WsBundle\Handler\MessageHandlerPass;
use Snoke\WsBundle\Handler\MessageRouter;
use Snoke\WsBundle\Tests\Unit\Event\EventFactoryTest;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\DependencyInjection\Exception\InvalidArgumentException;
use Symfony\Component\DependencyInjection\Reference;
use Symfony\Component\Serializer\Normalizer\ObjectNormalizer;
use Symfony\Component\Serializer\Serializer;

final class MessageHandlerPassTest extends TestCase
{
    protected function setUp(): void
    {
        Fixture\Handlers::$calls = [];
    }

    public function testMessagesGoToTheHandlersOfTheirTypeByPriority(): void
    {
        $router = $this->router([Fixture\Handlers::class, Fixture\Invokable::class]);
        $router(self::message('chat'));

        self::assertSame(['first chat', 'chat hello', 'invoked', 'every chat'], Fixture\Handlers::$calls);
        self::assertTrue($router->handles('chat'));
    }

    public function testAMethodMayHandleSeveralTypes(): void
    {
        $router = $this->router([Fixture\Handlers::class]);
        $router(self::message('ping2'));

        self::assertSame(['first ping2', 'every ping2'], Fixture\Handlers::$calls);
    }

    public function testATypeWithoutHandlersPassesBy(): void
    {
        $router = $this->router([Fixture\Invokable::class]);
        $router(self::message('other'));

        self::assertSame([], Fixture\Handlers::$calls);
        self::assertFalse($router->handles('other'));
    }

    public function testAMessageBecomesAnObject(): void
    {
        $router = $this->router([Fixture\TakesObject::class], serializer: true);
        $router(self::message('chat'));

        self::assertSame(['object hello by 42'], Fixture\Handlers::$calls);
    }

    public function testAMessageThatIsNoSuchObjectIsHopelessAndNotRepeated(): void
    {
        $router = $this->router([Fixture\TakesObject::class], serializer: true);
        try {
            $router(self::message('chat', ['s3cret']));
            self::fail('must throw');
        } catch (UnprocessableEventException $exception) {
            self::assertStringContainsString('ChatMessage', $exception->getMessage());
            self::assertStringNotContainsString('s3cret', $exception->getMessage());
        }
    }

    public function testAnObjectNeedsTheSerializer(): void
    {
        $this->expectException(InvalidArgumentException::class);
        $this->expectExceptionMessage('composer require symfony/serializer-pack');
        $this->router([Fixture\TakesObject::class]);
    }

    public function testAParameterOfAnotherTypeIsAMistake(): void
    {
        $this->expectException(InvalidArgumentException::class);
        $this->expectExceptionMessage('Parameter $what of ' . Fixture\TakesText::class . '::onMessage() must be a');
        $this->router([Fixture\TakesText::class]);
    }

    public function testAMissingMethodIsAMistake(): void
    {
        $container = $this->container([]);
        $container->register('handler', Fixture\Handlers::class)->addTag(MessageHandlerPass::TAG, ['type' => 'a', 'method' => 'no']);
        $this->expectException(InvalidArgumentException::class);
        $this->expectExceptionMessage('Handlers::no(), which does not exist');
        $container->compile();
    }

    public function testATagDoesWithoutTheAttribute(): void
    {
        $container = $this->container([]);
        $container->register('handler', Fixture\Handlers::class)->addTag(MessageHandlerPass::TAG, ['type' => 'plain', 'method' => 'onChat']);
        $container->compile();
        $router = $container->get(MessageHandlerPass::ROUTER);
        self::assertInstanceOf(MessageRouter::class, $router);
        $router(self::message('plain'));

        self::assertSame(['chat hello'], Fixture\Handlers::$calls);
    }

    /**
     * @param list<class-string> $handlers
     */
    private function router(array $handlers, bool $serializer = false): MessageRouter
    {
        $container = $this->container($handlers, $serializer);
        $container->compile();
        $router = $container->get(MessageHandlerPass::ROUTER);
        self::assertInstanceOf(MessageRouter::class, $router);

        return $router;
    }

    /**
     * @param list<class-string> $handlers
     */
    private function container(array $handlers, bool $serializer = false): ContainerBuilder
    {
        $container = new ContainerBuilder();
        $router = $container->register(MessageHandlerPass::ROUTER, MessageRouter::class)->setPublic(true);
        if ($serializer) {
            $container->register('normalizer', ObjectNormalizer::class);
            $container->register('serializer', Serializer::class)->setArguments([[new Reference('normalizer')]]);
            $router->setArgument('$denormalizer', new Reference('serializer'));
        }
        foreach ($handlers as $class) {
            $container->register($class)->setAutoconfigured(true);
        }
        MessageHandlerPass::registerAttribute($container);
        $container->addCompilerPass(new MessageHandlerPass());

        return $container;
    }

    private static function message(string $type, mixed $payload = 'hello'): WebsocketMessageReceivedEvent
    {
        $event = (new EventFactory())->fromArray(EventFactoryTest::message(['type' => $type, 'payload' => $payload]));
        self::assertInstanceOf(WebsocketMessageReceivedEvent::class, $event);

        return $event;
    }
}
