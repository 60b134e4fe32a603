<?php

declare(strict_types=1);

namespace App\Tests;

use App\Tests\Support\Stack;

/**
 * Terminator mode: webhooks and HTTP.
 */
final class TerminatorTest extends StackTestCase
{
    protected static function kind(): string
    {
        return 'terminator';
    }

    public function testAWrongMissingOldOrChangedSignatureIsRefused(): void
    {
        $body = self::event('forged');
        $now = time();
        $refused = [
            'missing' => [],
            'wrong' => ['webhook-signature' => 'v1,' . base64_encode(str_repeat('x', 32))] + self::signed('a', $now, $body),
            'of another body' => self::signed('a', $now, $body . ' '),
            'of another time' => ['webhook-timestamp' => (string) ($now - 1)] + self::signed('a', $now, $body),
            'by another secret' => self::signed('a', $now, $body, 'guessed'),
            'old' => self::signed('a', $now - 301, $body),
            'of the future' => self::signed('a', $now + 302, $body),
            'weaker beside a wrong one' => ['webhook-signature' => 'v1,AAAA', 'X-Webhook-Signature' => 'sha256=' . hash_hmac('sha256', $body, Stack::WEBHOOK_SECRET)] + self::signed('a', $now, $body),
        ];
        foreach ($refused as $what => $headers) {
            self::assertSame(401, self::deliver($body, $headers), $what);
        }
        self::assertStringNotContainsString('forged', self::$stack->api('GET', '/api/ws/last-message')['body']);

        self::assertSame(204, self::deliver($body, self::signed('a', $now, $body)), 'and a right one is taken');
        self::assertStringContainsString('forged', self::$stack->api('GET', '/api/ws/last-message')['body']);
    }

    public function testAReplayedWebhookIsHandledOnce(): void
    {
        $first = self::event('first');
        $headers = self::signed('replayed', time(), $first);
        self::assertSame(204, self::deliver($first, $headers));
        $second = self::event('second');
        self::assertSame(204, self::deliver($second, self::signed('second', time(), $second)));
        self::assertSame(204, self::deliver($first, $headers), 'the sender must not try for ever');
        self::assertStringContainsString('second', self::$stack->api('GET', '/api/ws/last-message')['body']);
    }

    public function testSignInAndTokens(): void
    {
        $form = ['Content-Type' => 'application/x-www-form-urlencoded'];
        self::assertSame(422, self::$stack->api('POST', '/demo/chat', 'name=carol&key=wrong', $form)['status']);
        self::assertSame(422, self::$stack->api('POST', '/demo/chat', 'name=%3Cscript%3E&key=' . Stack::DEMO_KEY, $form)['status']);
        self::assertSame(303, self::$stack->api('GET', '/demo/chat/carol', null, [])['status']);
        self::assertSame(401, self::$stack->api('POST', '/demo/chat/carol/token', null, [])['status']);

        $answer = self::$stack->api('POST', '/demo/chat', 'name=carol&key=' . Stack::DEMO_KEY, $form);
        self::assertSame(303, $answer['status']);
        $set = implode("\n", preg_grep('/^Set-Cookie:/i', $answer['headers']));
        self::assertMatchesRegularExpression('/httponly/i', $set);
        self::assertMatchesRegularExpression('/samesite=strict/i', $set);
        preg_match('/^Set-Cookie: ([^;]+)/im', $set, $found);
        $cookie = ['Cookie' => $found[1]];
        $page = self::$stack->api('GET', '/demo/chat/carol', null, $cookie);
        self::assertSame(200, $page['status']);
        self::assertContains(sprintf(
            "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; connect-src 'self' ws://127.0.0.1:%d",
            self::$stack->gatewayPort,
        ), $page['headers']);
        $token = self::$stack->api('POST', '/demo/chat/carol/token', null, $cookie)['json'];
        self::assertGreaterThan(time() + 3000, $token['expires_at']);
        self::assertSame(401, self::$stack->api('POST', '/demo/chat/dave/token', null, $cookie)['status'], 'not for somebody else');
    }

    private static function event(string $text): string
    {
        return json_encode([
            'type' => 'message_received', 'event_id' => bin2hex(random_bytes(8)), 'connection_id' => 'c1', 'user_id' => '9',
            'subjects' => ['user:9'], 'connected_at' => time(), 'seq' => 2,
            'message' => ['type' => 'note', 'text' => $text], 'raw' => '{}',
        ], \JSON_THROW_ON_ERROR);
    }

    /**
     * @return array<string, string>
     */
    private static function signed(string $id, int $time, string $body, string $secret = Stack::WEBHOOK_SECRET): array
    {
        return [
            'webhook-id' => $id,
            'webhook-timestamp' => (string) $time,
            'webhook-signature' => 'v1,' . base64_encode(hash_hmac('sha256', "$id.$time.$body", $secret, true)),
        ];
    }

    /**
     * @param array<string, string> $headers
     */
    private static function deliver(string $body, array $headers): int
    {
        return self::$stack->api('POST', '/internal/ws/events', $body, ['Content-Type' => 'application/json'] + $headers)['status'];
    }
}
