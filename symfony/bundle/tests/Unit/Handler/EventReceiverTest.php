<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Handler;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Dedupe\CacheEventDeduplicator;
use Snoke\WsBundle\Event\EventFactory;
use Snoke\WsBundle\Event\WebsocketConnectionEstablishedEvent;
use Snoke\WsBundle\Event\WebsocketEvent;
use Snoke\WsBundle\Handler\EventReceiver;
use Snoke\WsBundle\Tests\Integration\App\RecordingLogger;
use Snoke\WsBundle\Tests\Unit\Event\EventFactoryTest;
use Symfony\Component\Cache\Adapter\ArrayAdapter;
use Symfony\Component\Cache\Adapter\FilesystemAdapter;
use Symfony\Component\EventDispatcher\EventDispatcher;
use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\Store\FlockStore;

final class EventReceiverTest extends TestCase
{
    /** @var list<string> */
    private array $handled = [];
    private ?\Throwable $failure = null;
    private EventDispatcher $dispatcher;

    protected function setUp(): void
    {
        $this->dispatcher = new EventDispatcher();
        $this->dispatcher->addListener(WebsocketConnectionEstablishedEvent::class, function (WebsocketEvent $event): void {
            if (null !== $this->failure) {
                throw $this->failure;
            }
            $this->handled[] = $event->eventId;
        });
    }

    public function testAHandledEventIsNotHandledAgain(): void
    {
        $receiver = new EventReceiver($this->dispatcher, new CacheEventDeduplicator(new ArrayAdapter()));

        self::assertTrue($receiver->receive(self::event('a'), 'webhook'));
        self::assertFalse($receiver->receive(self::event('a'), 'webhook'));
        self::assertTrue($receiver->receive(self::event('b'), 'webhook'));
        self::assertSame(['a', 'b'], $this->handled);
    }

    public function testAFailedEventIsHandledWhenItComesAgain(): void
    {
        $receiver = new EventReceiver($this->dispatcher, new CacheEventDeduplicator(new ArrayAdapter()));
        $this->failure = new \RuntimeException('no');
        try {
            $receiver->receive(self::event('a'), 'webhook');
            self::fail('the failure must be known');
        } catch (\RuntimeException $exception) {
            self::assertSame($this->failure, $exception);
        }
        $this->failure = null;

        self::assertTrue($receiver->receive(self::event('a'), 'webhook'));
    }

    /**
     * The gateway tries a request again that timed out, though the application may still be at it.
     *
     * @requires extension pcntl
     */
    public function testWhatIsBeingHandledIsWaitedForByALock(): void
    {
        $directory = sys_get_temp_dir() . '/wsgw-lock-' . bin2hex(random_bytes(6));
        mkdir($directory);
        $receiver = fn (): EventReceiver => new EventReceiver(
            $this->dispatcher,
            new CacheEventDeduplicator(new FilesystemAdapter('', 0, $directory)),
            locks: new LockFactory(new FlockStore($directory)),
        );
        $this->dispatcher->addListener(WebsocketConnectionEstablishedEvent::class, static function () use ($directory): void {
            touch($directory . '/begun');
            usleep(300_000);
        });
        $pid = pcntl_fork();
        if (0 === $pid) {
            $receiver()->receive(self::event('a'), 'webhook');
            posix_kill(getmypid(), \SIGKILL);
        }
        while (!file_exists($directory . '/begun')) {
            usleep(5_000);
        }
        $isHandledNow = $receiver()->receive(self::event('a'), 'webhook');
        pcntl_waitpid($pid, $status);
        $files = \count(glob($directory . '/sf.*') ?: []);
        exec('rm -rf ' . escapeshellarg($directory));

        self::assertFalse($isHandledNow);
        self::assertSame([], $this->handled, 'the other process had it');
        self::assertLessThanOrEqual(1, $files);
    }

    public function testIdsMayHoldAnything(): void
    {
        $receiver = new EventReceiver($this->dispatcher, new CacheEventDeduplicator(new ArrayAdapter()));
        $id = '{}()/\\@: ' . str_repeat('x', 1000);

        self::assertTrue($receiver->receive(self::event($id), 'webhook'));
        self::assertFalse($receiver->receive(self::event($id), 'webhook'));
    }

    public function testWithoutACacheItSaysHowToGetOne(): void
    {
        $logger = new RecordingLogger();
        $receiver = new EventReceiver($this->dispatcher, new CacheEventDeduplicator(null, logger: $logger));
        $receiver->receive(self::event('a'), 'webhook');
        $receiver->receive(self::event('a'), 'webhook');

        self::assertSame(['a', 'a'], $this->handled);
        self::assertStringContainsString('"snoke_ws.dedupe.cache"', $logger->text());
    }

    public function testSwitchedOffItRemembersNothingAndIsSilent(): void
    {
        $logger = new RecordingLogger();
        $receiver = new EventReceiver($this->dispatcher, new CacheEventDeduplicator(new ArrayAdapter(), 60, false, $logger));
        $receiver->receive(self::event('a'), 'webhook');

        self::assertTrue($receiver->receive(self::event('a'), 'webhook'));
        self::assertSame('', $logger->text());
    }

    private static function event(string $id): WebsocketEvent
    {
        return (new EventFactory())->fromArray(['event_id' => $id] + EventFactoryTest::CONNECTED);
    }
}
