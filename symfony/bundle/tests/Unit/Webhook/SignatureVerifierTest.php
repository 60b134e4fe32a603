<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Webhook;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Exception\InvalidSettingException;
use Snoke\WsBundle\Webhook\RefusedWebhookException;
use Snoke\WsBundle\Webhook\SignatureVerifier;
use Symfony\Component\HttpFoundation\HeaderBag;

final class SignatureVerifierTest extends TestCase
{
    private const SECRET = 'a secret of some length';
    private const BODY = '{"type":"connected"}';
    private const ID = '0192f5a8-3c1f-7d10-8a4b-6e9c2f5a7b81';
    private const NOW = 1700000000;

    /**
     * The example of the Standard Webhooks specification, so that both sides cannot be wrong together.
     */
    public function testTheSpecificationsExample(): void
    {
        $verifier = new SignatureVerifier('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', now: static fn (): int => 1614265330);
        $verifier->verify(new HeaderBag([
            'webhook-id' => 'msg_p5jXN8AQM9LWM0D4loKWxJek',
            'webhook-timestamp' => '1614265330',
            'webhook-signature' => 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
        ]), '{"test": 2432232314}');
        $this->addToAssertionCount(1);
    }

    /**
     * @dataProvider accepted
     *
     * @param array<string, string> $headers
     */
    #[DataProvider('accepted')]
    public function testAccepted(array $headers, string $form = 'any'): void
    {
        $this->verifier($form)->verify(new HeaderBag($headers), self::BODY);
        $this->addToAssertionCount(1);
    }

    /**
     * @return iterable<string, array{0: array<string, string>, 1?: string}>
     */
    public static function accepted(): iterable
    {
        yield 'standard' => [self::standard()];
        yield 'standard, asked for' => [self::standard(), 'standard'];
        yield 'with the plain one beside it' => [self::standard() + self::body()];
        yield 'one of several signatures' => [['webhook-signature' => 'v1,b2xk v2,bmV3 ' . self::standard()['webhook-signature']] + self::standard()];
        yield 'as old as tolerated' => [self::standard(self::NOW - 300)];
        yield 'as far ahead as tolerated' => [self::standard(self::NOW + 300)];
        yield 'symfony' => [self::symfony()];
        yield 'symfony, asked for' => [self::symfony() + self::body(), 'symfony'];
        yield 'the body alone' => [self::body()];
        yield 'the body, asked for' => [self::body() + ['webhook-signature' => 'x'], 'body'];
    }

    /**
     * @dataProvider refused
     *
     * @param array<string, string|list<string>> $headers
     */
    #[DataProvider('refused')]
    public function testRefused(array $headers, string $reason, string $form = 'any'): void
    {
        $this->expectException(RefusedWebhookException::class);
        $this->expectExceptionMessage($reason);
        $this->verifier($form)->verify(new HeaderBag($headers), self::BODY);
    }

    /**
     * @return iterable<string, array{0: array<string, string|list<string>>, 1: string, 2?: string}>
     */
    public static function refused(): iterable
    {
        $standard = self::standard();
        yield 'nothing' => [[], 'the header x-webhook-signature is missing'];
        yield 'an empty signature' => [['x-webhook-signature' => ''], 'is missing'];
        yield 'too old' => [self::standard(self::NOW - 301), 'webhook-timestamp is 301 seconds before'];
        yield 'too far ahead' => [self::standard(self::NOW + 301), 'webhook-timestamp is 301 seconds after'];
        yield 'a time that was not signed' => [['webhook-timestamp' => (string) (self::NOW + 1)] + $standard, 'webhook-signature is wrong'];
        yield 'an id that was not signed' => [['webhook-id' => 'another'] + $standard, 'webhook-signature is wrong'];
        yield 'no time at all' => [['webhook-timestamp' => 'now'] + $standard, 'is not a number'];
        yield 'a time with more behind it' => [['webhook-timestamp' => self::NOW . "\n"] + $standard, 'is not a number'];
        yield 'an empty v1' => [['webhook-signature' => 'v1,'] + $standard, 'webhook-signature is wrong'];
        yield 'another version' => [['webhook-signature' => 'v1a' . substr($standard['webhook-signature'], 2)] + $standard, 'webhook-signature is wrong'];
        yield 'no version' => [['webhook-signature' => substr($standard['webhook-signature'], 3)] + $standard, 'webhook-signature is wrong'];
        yield 'twice the same header' => [['webhook-signature' => [$standard['webhook-signature'], 'v1,x']] + $standard, 'is there more than once'];
        // The weaker form is right in all of these.
        yield 'the stronger is wrong' => [['webhook-signature' => 'v1,x'] + $standard + self::body(), 'webhook-signature is wrong'];
        yield 'the stronger is old' => [self::standard(self::NOW - 301) + self::body(), '301 seconds before'];
        yield 'the stronger lacks its signature' => [array_diff_key($standard, ['webhook-signature' => 1]) + self::body(), 'webhook-signature is missing'];
        yield 'the stronger lacks its time' => [array_diff_key($standard, ['webhook-timestamp' => 1]) + self::body(), 'webhook-timestamp is missing'];
        yield 'only the id of the stronger' => [['webhook-id' => self::ID] + self::body(), 'is missing'];
        yield 'symfony is wrong' => [['webhook-event' => 'disconnected'] + self::symfony() + self::body(), 'Webhook-Signature is wrong'];
        yield 'symfony where standard is asked for' => [self::symfony(), 'webhook-timestamp is missing', 'standard'];
        yield 'the body where standard is asked for' => [self::body(), 'webhook-id is missing', 'standard'];
        yield 'the body where symfony is asked for' => [self::body(), 'webhook-event is missing', 'symfony'];
        yield 'a wrong body' => [['x-webhook-signature' => 'sha256=' . hash_hmac('sha256', 'other', self::SECRET)], 'X-Webhook-Signature is wrong'];
        yield 'another secret' => [['x-webhook-signature' => 'sha256=' . hash_hmac('sha256', self::BODY, 'other')], 'X-Webhook-Signature is wrong'];
        yield 'upper case' => [['x-webhook-signature' => strtoupper(self::body()['x-webhook-signature'])], 'X-Webhook-Signature is wrong'];
    }

    public function testTheSecretOfACallCounts(): void
    {
        $this->expectException(RefusedWebhookException::class);
        $this->verifier()->verify(new HeaderBag(self::standard()), self::BODY, 'another');
    }

    public function testWithoutASecretNothingIsVerified(): void
    {
        $this->expectException(InvalidSettingException::class);
        $this->expectExceptionMessage('"snoke_ws.events.webhook.secret" is empty');
        (new SignatureVerifier(''))->verify(new HeaderBag(self::standard()), self::BODY);
    }

    public function testUnsignedWhereThatIsWanted(): void
    {
        (new SignatureVerifier(null, allowUnsigned: true))->verify(new HeaderBag(), self::BODY);
        $this->expectException(RefusedWebhookException::class);
        (new SignatureVerifier(self::SECRET, allowUnsigned: true))->verify(new HeaderBag(), self::BODY);
    }

    public function testASecretThatIsNoBase64(): void
    {
        $this->expectException(InvalidSettingException::class);
        $this->expectExceptionMessage('begins with "whsec_"');
        (new SignatureVerifier('whsec_%%%'))->verify(new HeaderBag(self::standard()), self::BODY);
    }

    private function verifier(string $form = 'any'): SignatureVerifier
    {
        return new SignatureVerifier(self::SECRET, form: $form, now: static fn (): int => self::NOW);
    }

    /**
     * @return array<string, string>
     */
    private static function standard(int $timestamp = self::NOW): array
    {
        $signed = self::ID . '.' . $timestamp . '.' . self::BODY;

        return [
            'webhook-id' => self::ID,
            'webhook-timestamp' => (string) $timestamp,
            'webhook-signature' => 'v1,' . base64_encode(hash_hmac('sha256', $signed, self::SECRET, true)),
        ];
    }

    /**
     * @return array<string, string>
     */
    private static function symfony(): array
    {
        return [
            'webhook-event' => 'connected',
            'webhook-id' => self::ID,
            'webhook-signature' => 'sha256=' . hash_hmac('sha256', 'connected' . self::ID . self::BODY, self::SECRET),
        ];
    }

    /**
     * @return array<string, string>
     */
    private static function body(): array
    {
        return ['x-webhook-signature' => 'sha256=' . hash_hmac('sha256', self::BODY, self::SECRET)];
    }
}
