<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration;

use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Presence\Store\HttpPresenceStore;
use Snoke\WsBundle\Tests\Support\Gateway;
use Snoke\WsBundle\Token\CookieFactory;
use Snoke\WsBundle\Token\TokenFactory;

/**
 * The real gateway accepts the tokens, and takes from them what was put in.
 */
final class TokenTest extends TestCase
{
    private ?Gateway $gateway = null;
    private string $directory = '';

    protected function setUp(): void
    {
        $this->directory = sys_get_temp_dir() . '/wsgw-keys-' . bin2hex(random_bytes(6));
        mkdir($this->directory, 0700);
    }

    protected function tearDown(): void
    {
        $this->gateway?->remove();
        array_map('unlink', glob($this->directory . '/*') ?: []);
        rmdir($this->directory);
    }

    /**
     * @dataProvider algorithms
     */
    #[DataProvider('algorithms')]
    public function testTheGatewayAcceptsWhatIsSigned(string $algorithm): void
    {
        [$privateFile, $publicFile] = $this->keys($algorithm);
        $this->gateway = self::gateway($algorithm, $publicFile, ', user_id_claim: sub, issuer: "https://app.example", audience: ws');
        $tokens = new TokenFactory($algorithm, null, $privateFile, null, 'key-1', 60, 'sub', 'https://app.example', 'ws', ['tenant' => 'acme']);

        // ECDSA signatures differ each time: some have a half that begins with zero, or with a set bit.
        $count = 'ES256' === $algorithm ? 300 : 3;
        for ($i = 0; $i < $count; ++$i) {
            $socket = $this->gateway->connect($tokens->forUser($i, ['room:7', 'Räume/ü'])->value);
            $socket->send('{"type":"ping"}');
            self::assertSame('{"type":"pong"}', $socket->receive());
            $socket->close();
        }
        $socket = $this->gateway->connect($tokens->forUser('Ünal "x"', ['room:7', 'Räume/ü', 'room:7'])->value);
        $socket->send('{"type":"ping"}');
        $socket->receive();
        $connections = iterator_to_array((new HttpPresenceStore(null, $this->gateway->url(), Gateway::API_KEY))->ofUser('Ünal "x"'), false);
        self::assertSame(['user:Ünal "x"', 'room:7', 'Räume/ü'], $connections[0]->subjects);
        $socket->close();

        $other = new TokenFactory($algorithm, null, $this->keys($algorithm)[0], null, null, 60, 'sub', 'https://app.example', 'ws');
        self::assertStringStartsWith('closed 4401', $this->gateway->connect($other->forUser('1')->value)->receive(), 'Another key is refused.');
        $late = new TokenFactory($algorithm, null, $privateFile, null, null, 60, 'sub', 'https://app.example', 'ws', now: static fn (): int => time() - 61);
        self::assertStringStartsWith('closed 4401', $this->gateway->connect($late->forUser('1')->value)->receive(), 'An expired token is refused.');
    }

    public function testTheGatewayTakesTheCookie(): void
    {
        [$privateFile, $publicFile] = $this->keys('ES256');
        $this->gateway = self::gateway('ES256', $publicFile, '', ', token_sources: [cookie]');
        $cookie = (new CookieFactory())->create((new TokenFactory('ES256', null, $privateFile))->forUser('42'));

        $socket = $this->gateway->connect(cookie: strstr((string) $cookie, ';', true) ?: '');
        $socket->send('{"type":"ping"}');

        self::assertSame('{"type":"pong"}', $socket->receive());
        $socket->close();
    }

    /**
     * @return iterable<string, array{string}>
     */
    public static function algorithms(): iterable
    {
        yield 'RS256' => ['RS256'];
        yield 'ES256' => ['ES256'];
        yield 'HS256' => ['HS256'];
    }

    private static function gateway(string $algorithm, string $file, string $jwt, string $auth = ''): Gateway
    {
        return new Gateway(
            "  stages: [ { auth: { jwt: { algorithm: $algorithm, public_key_file: \"$file\"$jwt }$auth } }, { ping_filter: {} }, { fan_out: { events_mode: none } } ]\n",
        );
    }

    /**
     * @return array{string, string} files of the private and the public key
     */
    private function keys(string $algorithm): array
    {
        $name = $this->directory . '/' . bin2hex(random_bytes(4));
        if ('HS256' === $algorithm) {
            // With the line break that an editor adds.
            file_put_contents($name, bin2hex(random_bytes(24)) . "\n");

            return [$name, $name];
        }
        $options = 'ES256' === $algorithm
            ? ['private_key_type' => \OPENSSL_KEYTYPE_EC, 'curve_name' => 'prime256v1']
            : ['private_key_type' => \OPENSSL_KEYTYPE_RSA, 'private_key_bits' => 2048];
        $key = openssl_pkey_new($options);
        self::assertNotFalse($key);
        openssl_pkey_export_to_file($key, $name);
        file_put_contents($name . '.pub', openssl_pkey_get_details($key)['key']);

        return [$name, $name . '.pub'];
    }
}
