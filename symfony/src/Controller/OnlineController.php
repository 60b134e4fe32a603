<?php

declare(strict_types=1);

namespace App\Controller;

use App\Chat\ChatRelay;
use Snoke\WsBundle\Exception\PresenceException;
use Snoke\WsBundle\Presence\Connection;
use Snoke\WsBundle\Presence\PresenceProviderInterface;
use Symfony\Component\HttpFoundation\JsonResponse;
use Symfony\Component\HttpFoundation\Request;

/**
 * GET /api/online?user=42 or ?subject=room:7: who is online; without either, who is in the chat.
 */
final class OnlineController
{
    public function __construct(private readonly PresenceProviderInterface $presence)
    {
    }

    public function __invoke(Request $request): JsonResponse
    {
        $user = $request->query->all()['user'] ?? null;
        $subject = $request->query->all()['subject'] ?? ChatRelay::SUBJECT;
        if ((null !== $user && !\is_string($user)) || '' === $user || !\is_string($subject) || '' === $subject) {
            return Problem::response(400, 'Give one "user" or one "subject".');
        }
        try {
            $connections = null === $user
                ? $this->presence->connectionsOfSubject($subject)
                : $this->presence->connectionsOfUser($user);
        } catch (PresenceException $exception) {
            return Problem::response(502, $exception->getMessage());
        }
        $users = array_map(static fn (Connection $connection): string => $connection->userId, $connections);

        return new JsonResponse([
            'online' => [] !== $connections,
            'users' => array_values(array_unique($users)),
            'connections' => array_map(static fn (Connection $connection): array => [
                'connection_id' => $connection->connectionId,
                'user_id' => $connection->userId,
                'subjects' => $connection->subjects,
                'connected_at' => $connection->connectedAt,
                'last_seen_at' => $connection->lastSeenAt,
            ], $connections),
        ]);
    }
}
