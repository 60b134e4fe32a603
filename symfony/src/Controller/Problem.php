<?php

declare(strict_types=1);

namespace App\Controller;

use Symfony\Component\HttpFoundation\JsonResponse;
use Symfony\Component\HttpFoundation\Response;

/**
 * Says what went wrong as RFC 9457 has it.
 */
final class Problem
{
    public static function response(int $status, string $detail): JsonResponse
    {
        $problem = ['type' => 'about:blank', 'title' => Response::$statusTexts[$status], 'status' => $status, 'detail' => $detail];
        $headers = ['Content-Type' => 'application/problem+json', 'Cache-Control' => 'no-store'];

        return new JsonResponse($problem, $status, $headers);
    }
}
