<?php

declare(strict_types=1);

namespace App\Controller;

use App\Chat\ChatRelay;
use App\Security\DemoKey;
use Snoke\WsBundle\Setting\Setting;
use Snoke\WsBundle\Token\TokenFactoryInterface;
use Symfony\Component\HttpFoundation\JsonResponse;
use Symfony\Component\HttpFoundation\RedirectResponse;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;
use Symfony\Component\Routing\Generator\UrlGeneratorInterface;
use Twig\Environment;

/**
 * The chat's pages. One browser may be several users, each in a tab of its own, so that the demo can be tried alone.
 */
final class ChatController
{
    private const SESSION_KEY = 'chat.users';
    private const NAME = '/^[\p{L}\p{N}][\p{L}\p{N}._-]{0,31}$/uD';

    public function __construct(
        private readonly Environment $twig,
        private readonly UrlGeneratorInterface $urls,
        private readonly DemoKey $key,
        private readonly string $publicUrl,
    ) {
    }

    public function signIn(Request $request): Response
    {
        $name = trim((string) $request->request->get('name', ''));
        $problem = null;
        if ($request->isMethod('POST')) {
            if (!$this->key->opens((string) $request->request->get('key', ''))) {
                $problem = $this->key->isSet() ? 'That is not the demo key.' : 'The demo has no key yet: set DEMO_API_KEY.';
            } elseif (1 !== preg_match(self::NAME, $name)) {
                $problem = 'A name has 1 to 32 letters, digits, dots, hyphens and underscores.';
            } else {
                $session = $request->getSession();
                $session->migrate();
                $session->set(self::SESSION_KEY, array_unique([...self::names($request), $name]));

                return new RedirectResponse($this->urls->generate('chat', ['user' => $name]), 303);
            }
        }

        return $this->html('chat/sign_in.html.twig', [
            'name' => $name,
            'problem' => $problem,
            'has_key' => $this->key->isSet(),
        ], null === $problem ? 200 : 422);
    }

    public function page(string $user, Request $request): Response
    {
        if (!$this->isSignedIn($user, $request)) {
            return new RedirectResponse($this->urls->generate('chat_sign_in'), 303);
        }
        $parts = parse_url(Setting::url('public_url', $this->publicUrl, ['ws', 'wss'], 'wss://app.example/ws')) ?: [];
        $gateway = sprintf('%s://%s%s', $parts['scheme'] ?? '', $parts['host'] ?? '', isset($parts['port']) ? ':' . $parts['port'] : '');

        return $this->html('chat/chat.html.twig', ['user' => $user, 'subject' => ChatRelay::SUBJECT], 200, $gateway);
    }

    /**
     * A fresh token, before the one in the page ends.
     */
    public function token(string $user, Request $request, TokenFactoryInterface $tokens): JsonResponse
    {
        if (!$this->isSignedIn($user, $request)) {
            return Problem::response(401, 'Sign in first.');
        }

        return new JsonResponse($tokens->forUser($user, [ChatRelay::SUBJECT]), 200, ['Cache-Control' => 'no-store']);
    }

    private function isSignedIn(string $user, Request $request): bool
    {
        return $request->hasPreviousSession() && \in_array($user, self::names($request), true);
    }

    /**
     * @return list<string> the names that the session is signed in with
     */
    private static function names(Request $request): array
    {
        $names = [];
        $kept = $request->getSession()->get(self::SESSION_KEY);
        foreach (\is_array($kept) ? $kept : [] as $name) {
            if (\is_string($name)) {
                $names[] = $name;
            }
        }

        return $names;
    }

    /**
     * @param array<string, mixed> $context
     */
    private function html(string $template, array $context, int $status, string $gateway = ''): Response
    {
        return new Response($this->twig->render($template, $context), $status, [
            'Cache-Control' => 'no-store',
            'Content-Security-Policy' => trim("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
                . "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; connect-src 'self' " . $gateway),
            'Referrer-Policy' => 'no-referrer',
            'X-Content-Type-Options' => 'nosniff',
        ]);
    }
}
