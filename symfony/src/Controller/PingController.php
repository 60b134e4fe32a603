<?php

declare(strict_types=1);

namespace App\Controller;

use Snoke\WsBundle\Setting\Setting;
use Symfony\Component\HttpFoundation\JsonResponse;

/**
 * GET /api/ping: the application runs, and how it talks with the gateway.
 */
final class PingController
{
    public function __construct(
        private readonly string $mode,
        private readonly ?string $transport,
        private readonly ?string $presence,
        private readonly ?string $events,
    ) {
    }

    public function __invoke(): JsonResponse
    {
        return new JsonResponse([
            'ok' => true,
            'mode' => $this->mode,
            'transport' => Setting::type('transport', $this->mode, $this->transport),
            'presence' => Setting::type('presence', $this->mode, $this->presence),
            'events' => Setting::type('events', $this->mode, $this->events),
        ]);
    }
}
