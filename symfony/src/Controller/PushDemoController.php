<?php

declare(strict_types=1);

namespace App\Controller;

use Snoke\WsBundle\Exception\InvalidPushException;
use Snoke\WsBundle\Exception\PublishException;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;
use Symfony\Component\HttpFoundation\JsonResponse;
use Symfony\Component\HttpFoundation\Request;

/**
 * POST /api/push-demo/{userId}: pushes the JSON of the body, or a greeting, to a user.
 */
final class PushDemoController
{
    public function __construct(private readonly WebsocketPublisherInterface $publisher)
    {
    }

    public function __invoke(string $userId, Request $request): JsonResponse
    {
        $payload = ['type' => 'demo', 'text' => 'Hello from Symfony'];
        $body = (string) $request->getContent();
        if ('' !== trim($body)) {
            // As objects: an empty one would come back as an empty list.
            $payload = json_decode($body);
            if (\JSON_ERROR_NONE !== json_last_error()) {
                return Problem::response(400, 'The body is no JSON: ' . json_last_error_msg() . '.');
            }
        }
        try {
            $result = $this->publisher->toUser($userId, $payload);
        } catch (InvalidPushException $exception) {
            return Problem::response(400, $exception->getMessage());
        } catch (PublishException $exception) {
            return Problem::response(502, $exception->getMessage());
        }

        return new JsonResponse([
            'ok' => true,
            'transport' => $result->transport,
            'sent' => $result->sent,
            'message_id' => $result->messageId,
        ]);
    }
}
