<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DataCollector;

use Snoke\WsBundle\Event\WebsocketMessageReceivedEvent;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;
use Symfony\Component\HttpKernel\DataCollector\DataCollector;

/**
 * Shows a request's pushes and events in the profiler.
 *
 * What clients are told and tell is shown in the environment `dev` only, elsewhere its size. Keys and tokens never get
 * here.
 */
final class WsDataCollector extends DataCollector
{
    public const NAME = 'snoke_ws';

    public function __construct(
        private readonly TraceablePublisher $publisher,
        private readonly EventRecorder $recorder,
        private readonly bool $showPayloads,
    ) {
        $this->reset();
    }

    public function collect(Request $request, Response $response, ?\Throwable $exception = null): void
    {
        $pushes = [];
        foreach ($this->publisher->pushes() as $push) {
            $payload = $push['payload'];
            $push['bytes'] = self::bytes($payload);
            $push['payload'] = $this->showPayloads ? $this->cloneVar($payload) : null;
            $pushes[] = $push;
        }
        $events = [];
        foreach ($this->recorder->events() as $event) {
            $isMessage = $event instanceof WebsocketMessageReceivedEvent;
            $events[] = [
                'type' => $event->type(),
                'user' => $event->userId,
                'connection' => $event->connectionId,
                'subjects' => implode(', ', \array_slice($event->subjects, 0, 20)),
                'seq' => $event->seq,
                'bytes' => \strlen($event->json()),
                'message' => $isMessage && $this->showPayloads ? $this->cloneVar($event->fields['message'] ?? null) : null,
            ];
        }
        $this->data = [
            'pushes' => $pushes,
            'events' => $events,
            'push_count' => $this->publisher->count(),
            'failed_count' => $this->publisher->failed(),
            'event_count' => $this->recorder->count(),
            'shows_payloads' => $this->showPayloads,
        ];
    }

    public function reset(): void
    {
        $this->data = [
            'pushes' => [], 'events' => [], 'push_count' => 0, 'failed_count' => 0, 'event_count' => 0, 'shows_payloads' => false,
        ];
    }

    public function getName(): string
    {
        return self::NAME;
    }

    /**
     * @return array<array-key, mixed> the first ones
     */
    public function getPushes(): array
    {
        return $this->items('pushes');
    }

    /**
     * @return array<array-key, mixed> the first ones
     */
    public function getEvents(): array
    {
        return $this->items('events');
    }

    public function getPushCount(): int
    {
        return $this->number('push_count');
    }

    public function getFailedCount(): int
    {
        return $this->number('failed_count');
    }

    public function getEventCount(): int
    {
        return $this->number('event_count');
    }

    public function getShowsPayloads(): bool
    {
        return true === $this->datum('shows_payloads');
    }

    /**
     * @return array<array-key, mixed>
     */
    private function items(string $name): array
    {
        $items = $this->datum($name);

        return \is_array($items) ? $items : [];
    }

    private function number(string $name): int
    {
        $number = $this->datum($name);

        return \is_int($number) ? $number : 0;
    }

    /**
     * The profiler keeps nothing but what is in there.
     */
    private function datum(string $name): mixed
    {
        return \is_array($this->data) ? $this->data[$name] ?? null : null;
    }

    /**
     * What the payload takes as JSON; null if it cannot be written so.
     */
    private static function bytes(mixed $payload): ?int
    {
        $json = json_encode($payload, \JSON_UNESCAPED_SLASHES | \JSON_UNESCAPED_UNICODE | \JSON_PRESERVE_ZERO_FRACTION);

        return false === $json ? null : \strlen($json);
    }
}
