<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Publisher;

use PHPUnit\Framework\TestCase;
use Psr\Log\AbstractLogger;
use Snoke\WsBundle\Exception\InvalidPushException;
use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Publisher\PublishResult;
use Snoke\WsBundle\Publisher\Push;
use Snoke\WsBundle\Publisher\Transport\TransportInterface;
use Snoke\WsBundle\Publisher\WebsocketPublisher;
use Snoke\WsBundle\Test\InMemoryTransport;
use Snoke\WsBundle\Tracing\TraceContextInterface;
use Snoke\WsBundle\User\UserIdResolverInterface;
use Symfony\Component\Security\Core\User\InMemoryUser;
use Symfony\Component\Security\Core\User\UserInterface;

final class WebsocketPublisherTest extends TestCase
{
    public function testUsersAreResolvedAndPrefixed(): void
    {
        $transport = new InMemoryTransport();
        $ids = new class implements UserIdResolverInterface {
            public function resolve(UserInterface|string|int $user): string
            {
                return $user instanceof UserInterface ? 'id-of-' . $user->getUserIdentifier() : (string) $user;
            }
        };
        $publisher = new WebsocketPublisher($transport, 'u/', $ids);
        $publisher->toUser(new InMemoryUser('alice', null), 1);
        $publisher->toUser(42, 1);

        self::assertSame([['u/id-of-alice'], ['u/42']], array_map(static fn ($push) => $push->subjects, $transport->pushes()));
    }

    public function testATraceIsSentAlong(): void
    {
        $transport = new InMemoryTransport();
        $trace = new class implements TraceContextInterface {
            /** @var array<string, mixed> */
            public array $attributes = [];

            public function traceparent(): ?string
            {
                return null;
            }

            public function produce(string $name, array $attributes, callable $operation): mixed
            {
                $this->attributes = $attributes + ['name' => $name];

                return $operation('00-1-2-01');
            }
        };
        (new WebsocketPublisher($transport, trace: $trace))->send(['a', 'b'], 'hunter2');

        self::assertSame('00-1-2-01', $transport->pushes()[0]->traceparent);
        self::assertSame(['ws.publish', 2], [$trace->attributes['name'], $trace->attributes['ws.subjects.count']]);
        self::assertStringNotContainsString('hunter2', json_encode($trace->attributes));
    }

    public function testAFailureIsLoggedWithoutThePayloadAndPasses(): void
    {
        $logger = new class extends AbstractLogger {
            public string $text = '';

            public function log($level, $message, array $context = []): void
            {
                $this->text .= $level . ' ' . $message . ' ' . json_encode($context) . "\n";
            }
        };
        $transport = new class implements TransportInterface {
            public function publish(Push $push): PublishResult
            {
                throw new PublishException('It is away.', 'http');
            }
        };
        try {
            (new WebsocketPublisher($transport, logger: $logger))->send(['room:7'], 'hunter2');
            self::fail('The failure did not pass.');
        } catch (PublishException) {
        }

        self::assertStringContainsString('error', $logger->text);
        self::assertStringContainsString('room:7', $logger->text);
        self::assertStringNotContainsString('hunter2', $logger->text);
    }

    public function testAUserWithoutAnIdIsNobody(): void
    {
        $this->expectException(InvalidPushException::class);
        (new WebsocketPublisher(new InMemoryTransport()))->toUser(' ', 1);
    }
}
