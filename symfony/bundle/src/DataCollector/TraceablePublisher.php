<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DataCollector;

use Snoke\WsBundle\Publisher\PublishResult;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;
use Symfony\Component\Security\Core\User\UserInterface;
use Symfony\Contracts\Service\ResetInterface;

/**
 * Notes what is pushed, for the profiler.
 *
 * @internal
 */
final class TraceablePublisher implements WebsocketPublisherInterface, ResetInterface
{
    /** A request that pushes more, such as an import, is not to run out of memory for it. */
    private const KEPT = 200;

    /** @var list<array{to: string, payload: mixed, transport: ?string, sent: ?int, id: ?string, ms: float, error: ?string}> */
    private array $pushes = [];
    private int $count = 0;
    private int $failed = 0;

    public function __construct(private readonly WebsocketPublisherInterface $inner)
    {
    }

    public function send(array $subjects, mixed $payload): PublishResult
    {
        $names = [];
        /** @var mixed $subject what is wrong with it is for the publisher to say */
        foreach (\array_slice($subjects, 0, 20) as $subject) {
            $names[] = \is_string($subject) ? $subject : get_debug_type($subject);
        }
        $more = \count($subjects) - \count($names);

        return $this->noted(implode(', ', $names) . ($more > 0 ? sprintf(' and %d more', $more) : ''), $payload, fn () => $this->inner->send($subjects, $payload));
    }

    public function toUser(UserInterface|string|int $user, mixed $payload): PublishResult
    {
        $name = $user instanceof UserInterface ? $user->getUserIdentifier() : (string) $user;

        return $this->noted('user ' . $name, $payload, fn () => $this->inner->toUser($user, $payload));
    }

    /**
     * @return list<array{to: string, payload: mixed, transport: ?string, sent: ?int, id: ?string, ms: float, error: ?string}>
     */
    public function pushes(): array
    {
        return $this->pushes;
    }

    public function count(): int
    {
        return $this->count;
    }

    public function failed(): int
    {
        return $this->failed;
    }

    public function reset(): void
    {
        $this->pushes = [];
        $this->count = $this->failed = 0;
    }

    /**
     * @param \Closure(): PublishResult $publish
     */
    private function noted(string $to, mixed $payload, \Closure $publish): PublishResult
    {
        $start = hrtime(true);
        $result = $error = null;
        try {
            return $result = $publish();
        } catch (\Throwable $exception) {
            $error = $exception->getMessage();
            ++$this->failed;
            throw $exception;
        } finally {
            ++$this->count;
            if (\count($this->pushes) < self::KEPT) {
                $this->pushes[] = [
                    'to' => $to,
                    'payload' => $payload,
                    'transport' => $result?->transport,
                    'sent' => $result?->sent,
                    'id' => $result?->messageId,
                    'ms' => (hrtime(true) - $start) / 1e6,
                    'error' => $error,
                ];
            }
        }
    }
}
