<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Webhook;

use Snoke\WsBundle\Setting\Setting;
use Symfony\Component\HttpFoundation\HeaderBag;

/**
 * Verifies the signatures that the gateway makes (`events.webhook.signature`).
 *
 * | form       | headers                                              | signed                 |
 * |------------|------------------------------------------------------|------------------------|
 * | `standard` | webhook-id, webhook-timestamp, webhook-signature     | id, time and body      |
 * | `symfony`  | Webhook-Event, Webhook-Id, Webhook-Signature         | type, id and body      |
 * | `body`     | X-Webhook-Signature                                  | body                   |
 *
 * With `any`, the strongest form that a request bears any trace of decides: one whose stronger signature is wrong or
 * incomplete is not saved by a weaker one. Only `standard` signs a time, so with it alone nothing old is ever taken.
 */
final class SignatureVerifier implements SignatureVerifierInterface
{
    /** @var \Closure(): int */
    private readonly \Closure $now;

    /**
     * @param (\Closure(): int)|null $now Unix seconds
     */
    public function __construct(
        #[\SensitiveParameter] private readonly ?string $secret,
        private readonly int $toleranceSeconds = 300,
        private readonly bool $allowUnsigned = false,
        private readonly string $form = 'any',
        ?\Closure $now = null,
    ) {
        $this->now = $now ?? time(...);
    }

    public function verify(HeaderBag $headers, string $body, #[\SensitiveParameter] ?string $secret = null): void
    {
        $secret ??= $this->secret ?? '';
        if ('' === $secret) {
            if ($this->allowUnsigned) {
                return;
            }
            throw Setting::invalid('events.webhook.secret', 'is empty, so that no webhook can be verified');
        }
        $form = Setting::choice('events.webhook.signature', $this->form, Setting::SIGNATURES);
        match ('any' === $form ? self::strongest($headers) : $form) {
            'standard' => $this->standard($headers, $body, $secret),
            'symfony' => $this->symfony($headers, $body, $secret),
            default => $this->body($headers, $body, $secret),
        };
    }

    private static function strongest(HeaderBag $headers): string
    {
        if ($headers->has('webhook-event') && !$headers->has('webhook-timestamp')) {
            return 'symfony';
        }
        foreach (['webhook-timestamp', 'webhook-signature', 'webhook-id'] as $name) {
            if ($headers->has($name)) {
                return 'standard';
            }
        }

        return 'body';
    }

    private function standard(HeaderBag $headers, string $body, #[\SensitiveParameter] string $secret): void
    {
        $id = self::header($headers, 'webhook-id');
        $timestamp = self::header($headers, 'webhook-timestamp');
        $signatures = self::header($headers, 'webhook-signature');
        if (1 !== preg_match('/^[0-9]{1,12}$/D', $timestamp)) {
            throw new RefusedWebhookException('webhook-timestamp is not a number of Unix seconds');
        }
        $key = self::standardKey($secret);
        $expected = base64_encode(hash_hmac('sha256', $id . '.' . $timestamp . '.' . $body, $key, true));
        $matches = false;
        foreach (explode(' ', $signatures) as $signature) {
            // Others than v1 are of versions that a sender may add to it.
            $matches = (str_starts_with($signature, 'v1,') && hash_equals($expected, substr($signature, 3))) || $matches;
        }
        if (!$matches) {
            throw new RefusedWebhookException('webhook-signature is wrong');
        }
        $age = ($this->now)() - (int) $timestamp;
        if (abs($age) > $this->toleranceSeconds) {
            throw new RefusedWebhookException(sprintf(
                'webhook-timestamp is %d seconds %s this machine\'s time, more than the %d that are tolerated',
                abs($age),
                $age > 0 ? 'before' : 'after',
                $this->toleranceSeconds,
            ));
        }
    }

    private function symfony(HeaderBag $headers, string $body, #[\SensitiveParameter] string $secret): void
    {
        $signed = self::header($headers, 'webhook-event') . self::header($headers, 'webhook-id') . $body;
        $expected = 'sha256=' . hash_hmac('sha256', $signed, $secret);
        if (!hash_equals($expected, self::header($headers, 'webhook-signature'))) {
            throw new RefusedWebhookException('Webhook-Signature is wrong');
        }
    }

    private function body(HeaderBag $headers, string $body, #[\SensitiveParameter] string $secret): void
    {
        $expected = 'sha256=' . hash_hmac('sha256', $body, $secret);
        if (!hash_equals($expected, self::header($headers, 'x-webhook-signature'))) {
            throw new RefusedWebhookException('X-Webhook-Signature is wrong');
        }
    }

    private static function header(HeaderBag $headers, string $name): string
    {
        $values = $headers->all($name);
        $value = $values[0] ?? null;
        if (1 !== \count($values) || !\is_string($value) || '' === $value) {
            throw new RefusedWebhookException(sprintf(
                'the header %s %s',
                $name,
                \count($values) > 1 ? 'is there more than once' : 'is missing',
            ));
        }

        return $value;
    }

    /**
     * Secrets of the Standard Webhooks specification are base64 after their prefix; others are used as they are.
     */
    private static function standardKey(#[\SensitiveParameter] string $secret): string
    {
        if (!str_starts_with($secret, 'whsec_')) {
            return $secret;
        }
        $key = base64_decode(substr($secret, 6), true);
        if (false === $key || '' === $key) {
            throw Setting::invalid('events.webhook.secret', 'begins with "whsec_", so that base64 must follow, which does not');
        }

        return $key;
    }
}
