<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Token;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Exception\ExceptionInterface;
use Snoke\WsBundle\Exception\InvalidSettingException;
use Snoke\WsBundle\Exception\TokenException;
use Snoke\WsBundle\Token\CookieFactory;
use Snoke\WsBundle\Token\SigningKey;
use Snoke\WsBundle\Token\Token;
use Snoke\WsBundle\Token\TokenFactory;
use Symfony\Component\Security\Core\User\InMemoryUser;

final class TokenFactoryTest extends TestCase
{
    private const SECRET = 'hunter2-hunter2-hunter2-hunter2-hunter2';

    /** Keys of the gateway's tests. */
    private const KEYS = __DIR__ . '/../../../../../tests/keys/';

    protected function setUp(): void
    {
        while (false !== openssl_error_string()) {
            // What others left.
        }
    }

    public function testATokenIsWhatTheStandardSays(): void
    {
        // The example of RFC 7515, appendix A.1: its key, its text, its signature.
        $secret = (string) base64_decode(strtr('AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow', '-_', '+/'));
        $input = 'eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ';
        self::assertSame('dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk', rtrim(strtr(base64_encode(SigningKey::create('HS256', $secret)->sign($input)), '+/', '-_'), '='));
    }

    public function testItsClaims(): void
    {
        $factory = new TokenFactory('HS256', self::SECRET, null, null, 'k1', 60, 'sub', 'https://a', 'ws', ['tenant' => 'acme', 'nbf' => 1], now: static fn (): int => 1700000000);
        $token = $factory->forUser(new InMemoryUser('alice', null), ['room:7', 'room:7', 'ü'], ['tenant' => 'other', 'x' => 1.0], 5);

        self::assertSame(['typ' => 'JWT', 'alg' => 'HS256', 'kid' => 'k1'], self::part($token, 0));
        self::assertSame(
            ['sub' => 'alice', 'iat' => 1700000000, 'exp' => 1700000005, 'iss' => 'https://a', 'aud' => 'ws', 'subjects' => ['room:7', 'ü'], 'tenant' => 'other', 'x' => 1.0, 'nbf' => 1],
            self::part($token, 1),
        );
        self::assertSame(1700000005, $token->expiresAt->getTimestamp());
        self::assertSame(['token' => $token->value, 'expires_at' => 1700000005], json_decode(json_encode($token), true));
        self::assertStringNotContainsString($token->value, print_r($token, true));
        self::assertSame(['user_id' => '42', 'iat' => 1700000000, 'exp' => 1700003600], self::part((new TokenFactory('HS256', self::SECRET, now: static fn (): int => 1700000000))->forUser(42), 1));
    }

    /**
     * @dataProvider signatures
     */
    #[DataProvider('signatures')]
    public function testOpenSslVerifiesTheSignature(string $algorithm, string $file): void
    {
        $factory = new TokenFactory($algorithm, null, self::KEYS . $file . '.pem');
        // One in 64 has a half that begins with zero.
        for ($i = 0; $i < ('ES256' === $algorithm ? 1000 : 3); ++$i) {
            self::assertVerifies($algorithm, $file, $factory->forUser($i)->value);
        }
    }

    private static function assertVerifies(string $algorithm, string $file, string $token): void
    {
        [$header, $claims, $signature] = explode('.', $token);
        $signature = (string) base64_decode(strtr($signature, '-_', '+/'));
        if ('ES256' === $algorithm) {
            self::assertSame(64, \strlen($signature));
            $integer = static function (string $half): string {
                $half = ltrim($half, "\0");
                $half = \ord($half[0]) > 127 ? "\0" . $half : $half;

                return "\x02" . \chr(\strlen($half)) . $half;
            };
            $both = $integer(substr($signature, 0, 32)) . $integer(substr($signature, 32));
            $signature = "\x30" . \chr(\strlen($both)) . $both;
        }
        self::assertSame(1, openssl_verify($header . '.' . $claims, $signature, (string) file_get_contents(self::KEYS . $file . '.pub.pem'), \OPENSSL_ALGO_SHA256));
    }

    /**
     * @return iterable<string, array{string, string}>
     */
    public static function signatures(): iterable
    {
        yield 'RS256' => ['RS256', 'rsa'];
        yield 'ES256' => ['ES256', 'ec_p256'];
    }

    public function testAKeyMayBeInAVariable(): void
    {
        $pem = (string) file_get_contents(self::KEYS . 'ec_p256.pem');

        foreach ([$pem, str_replace("\n", '\n', trim($pem)), (string) file_get_contents(self::KEYS . 'ec_p256_sec1.pem')] as $key) {
            self::assertNotSame('', (new TokenFactory('ES256', $key))->forUser('42')->value);
        }
    }

    public function testAKeyMayBeEncrypted(): void
    {
        // Where OpenSSL is installed without its own file, it makes no keys.
        $config = (string) tempnam(sys_get_temp_dir(), 'wsgw');
        file_put_contents($config, "[req]\ndistinguished_name = dn\n[dn]\n");
        $options = ['config' => $config, 'private_key_bits' => 2048, 'private_key_type' => \OPENSSL_KEYTYPE_EC, 'curve_name' => 'prime256v1'];
        $key = openssl_pkey_new($options);
        self::assertNotFalse($key);
        openssl_pkey_export($key, $pem, 'hunter2', $options);
        unlink($config);

        self::assertNotSame('', (new TokenFactory('ES256', $pem, null, 'hunter2'))->forUser('42')->value);
        $this->expectException(TokenException::class);
        $this->expectExceptionMessage('"snoke_ws.token.passphrase" does not open it');
        (new TokenFactory('ES256', $pem, null, 'other'))->forUser('42');
    }

    /**
     * @dataProvider refused
     *
     * @param \Closure(): mixed $make
     */
    #[DataProvider('refused')]
    public function testWhatIsWrongIsSaid(\Closure $make, string $message): void
    {
        try {
            $make();
            self::fail('It was accepted.');
        } catch (ExceptionInterface $exception) {
            self::assertStringContainsString($message, $exception->getMessage());
            self::assertStringNotContainsString('hunter2', $exception->getMessage());
        }
        self::assertFalse(openssl_error_string(), 'OpenSSL\'s errors are not left to others.');
    }

    /**
     * @return iterable<string, array{\Closure(): mixed, string}>
     */
    public static function refused(): iterable
    {
        $with = static fn (string $algorithm, ?string $key, ?string $file = null): \Closure => static fn () => (new TokenFactory($algorithm, $key, $file))->forUser('42');
        $ask = static fn (mixed ...$arguments): \Closure => static fn () => (new TokenFactory('HS256', self::SECRET, claims: ['a' => 1]))->forUser(...$arguments);
        yield 'no key' => [$with('RS256', null), 'set "snoke_ws.token.key_file"'];
        yield 'no such file' => [$with('RS256', null, '/no/such'), '"/no/such", is not there'];
        yield 'no PEM' => [$with('RS256', 'hunter2'), 'is no private key in PEM'];
        yield 'a public key' => [$with('RS256', null, self::KEYS . 'rsa.pub.pem'), 'is no private key in PEM'];
        yield 'an EC key for RS256' => [$with('RS256', null, self::KEYS . 'ec_p256.pem'), 'RS256 needs an RSA key of 2048 bits'];
        yield 'an RSA key for ES256' => [$with('ES256', null, self::KEYS . 'rsa.pem'), 'ES256 needs an EC key on P-256'];
        yield 'another curve' => [$with('ES256', null, self::KEYS . 'ec_p384.pem'), 'ES256 needs an EC key on P-256'];
        yield 'a public key as a secret' => [$with('HS256', null, self::KEYS . 'rsa.pub.pem'), 'everybody who has the public key could make tokens'];
        yield 'a short secret' => [$with('HS256', 'hunter2'), 'must have 32 bytes or more'];
        yield 'no such algorithm' => [$with('none', self::SECRET), '"snoke_ws.token.algorithm" is "none"'];
        yield 'nobody' => [$ask(''), 'id is empty'];
        yield 'an empty subject' => [$ask('42', ['a', ' ']), 'Subject 1 of the token'];
        yield 'a long subject' => [$ask('42', [str_repeat('ü', 257)]), 'Subject 0 of the token'];
        yield 'too many subjects' => [$ask('42', array_fill(0, 1001, 'a')), 'may name 1000 subjects'];
        yield 'another user in the claims' => [$ask('42', [], ['user_id' => '7']), 'The claim "user_id" is set by the factory'];
        yield 'another end in the claims' => [$ask('42', [], ['exp' => 1]), 'The claim "exp"'];
        yield 'claims that are no JSON' => [$ask('42', [], ['x' => "hunter2\xff"]), 'cannot be written as JSON'];
        yield 'no time at all' => [$ask('42', [], [], 0), 'must last a second'];
    }

    public function testASubjectMayBeAsLongAsTheGatewayTakesIt(): void
    {
        $subject = str_repeat('ü', 256);

        self::assertSame([$subject], self::part((new TokenFactory('HS256', self::SECRET))->forUser('42', [$subject]), 1)['subjects']);
    }

    public function testTheCookieIsOutOfReachOfScriptsAndOtherSites(): void
    {
        $token = new Token('abc', new \DateTimeImmutable('@1700000000'));
        $cookie = (new CookieFactory('ws', null, 'app.example', true, 'lax', 'wss://app.example/socket?x=1'))->create($token);

        self::assertSame(['ws', 'abc', 1700000000, '/socket', 'app.example'], [$cookie->getName(), $cookie->getValue(), $cookie->getExpiresTime(), $cookie->getPath(), $cookie->getDomain()]);
        self::assertTrue($cookie->isHttpOnly());
        self::assertTrue($cookie->isSecure());
        self::assertSame('/ws', (new CookieFactory())->create($token)->getPath());
        self::assertSame('/own', (new CookieFactory(path: 'own', publicUrl: 'wss://a/b'))->create($token)->getPath());
        self::assertTrue((new CookieFactory())->clear()->isCleared());
        $this->expectException(InvalidSettingException::class);
        new CookieFactory(secure: false, sameSite: 'none');
    }

    /**
     * @return array<string, mixed>
     */
    private static function part(Token $token, int $at): array
    {
        return json_decode((string) base64_decode(strtr(explode('.', $token->value)[$at], '-_', '+/')), true, 512, \JSON_THROW_ON_ERROR);
    }
}
