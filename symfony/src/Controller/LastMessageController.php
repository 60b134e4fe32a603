<?php

declare(strict_types=1);

namespace App\Controller;

use App\Inbox\MessageInbox;
use Snoke\WsBundle\Exception\RedisException;
use Symfony\Component\HttpFoundation\JsonResponse;
use Symfony\Component\HttpFoundation\Response;

/**
 * GET /api/ws/last-message: the latest message that a client sent, as the event that PHP got.
 */
final class LastMessageController
{
    public function __construct(private readonly MessageInbox $inbox)
    {
    }

    public function __invoke(): Response
    {
        try {
            $event = $this->inbox->last();
        } catch (RedisException $exception) {
            return Problem::response(502, $exception->getMessage());
        }
        if (null === $event) {
            return Problem::response(404, 'No client has sent a message yet.');
        }

        // As it came: numbers keep the form that the client gave them.
        return new JsonResponse(sprintf('{"event":%s}', $event), 200, ['Cache-Control' => 'no-store'], true);
    }
}
