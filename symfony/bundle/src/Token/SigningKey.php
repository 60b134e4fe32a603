<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Token;

use Snoke\WsBundle\Exception\MissingPackageException;
use Snoke\WsBundle\Exception\TokenException;
use Snoke\WsBundle\Setting\Setting;

/**
 * Signs by one key, with one algorithm (RFC 7518, section 3).
 *
 * Signing is all that the application does with tokens, and three algorithms of ext-openssl and ext-hash do it. A JWT
 * library would add the risky half, which is verifying, and its own demands on PHP.
 *
 * @internal
 */
final class SigningKey
{
    /** A shorter secret can be found by trying (RFC 7518, section 3.2). */
    private const HMAC_BYTES = 32;

    /** The same for RSA (section 3.3). */
    private const RSA_BITS = 2048;

    /** Bytes of each half of an ES256 signature. */
    private const P256_BYTES = 32;

    private function __construct(
        public readonly string $algorithm,
        #[\SensitiveParameter] private readonly \OpenSSLAsymmetricKey|string $key,
    ) {
    }

    /**
     * @param string $key PEM, or with HS256 the secret
     *
     * @throws TokenException if the key does not fit the algorithm
     */
    public static function create(
        ?string $algorithm,
        #[\SensitiveParameter] string $key,
        #[\SensitiveParameter] ?string $passphrase = null,
    ): self {
        $algorithm = Setting::choice('token.algorithm', $algorithm, Setting::ALGORITHMS);
        if ('HS256' === $algorithm) {
            if (str_contains($key, '-----BEGIN ')) {
                throw new TokenException('The key is PEM, but "snoke_ws.token.algorithm" is "HS256": signed so, everybody who has the public key could make tokens.');
            }
            if (\strlen($key) < self::HMAC_BYTES) {
                throw new TokenException(sprintf('The secret of HS256 must have %d bytes or more. Try "openssl rand -base64 48".', self::HMAC_BYTES));
            }

            return new self($algorithm, $key);
        }
        if (!\extension_loaded('openssl')) {
            throw MissingPackageException::for('"snoke_ws.token.algorithm: ' . $algorithm . '"', 'installing ext-openssl');
        }
        // In an environment variable a PEM is often on one line.
        $pem = str_contains($key, "\n") ? $key : str_replace('\n', "\n", $key);
        $private = openssl_pkey_get_private($pem, $passphrase ?? '');
        while (false !== openssl_error_string()) {
            // What OpenSSL noted would turn up in somebody else's error message.
        }
        if (false === $private) {
            throw new TokenException('The key is no private key in PEM, or "snoke_ws.token.passphrase" does not open it.');
        }
        $details = openssl_pkey_get_details($private) ?: [];
        if ('RS256' === $algorithm && (\OPENSSL_KEYTYPE_RSA !== ($details['type'] ?? null) || ($details['bits'] ?? 0) < self::RSA_BITS)) {
            throw new TokenException(sprintf('RS256 needs an RSA key of %d bits or more. Try "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048".', self::RSA_BITS));
        }
        if ('ES256' === $algorithm && (\OPENSSL_KEYTYPE_EC !== ($details['type'] ?? null) || 'prime256v1' !== ($details['ec']['curve_name'] ?? null))) {
            throw new TokenException('ES256 needs an EC key on P-256. Try "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256".');
        }

        return new self($algorithm, $private);
    }

    public function sign(#[\SensitiveParameter] string $input): string
    {
        if (\is_string($this->key)) {
            return hash_hmac('sha256', $input, $this->key, true);
        }
        if (!openssl_sign($input, $signature, $this->key, \OPENSSL_ALGO_SHA256)) {
            throw new TokenException('The key cannot sign.');
        }

        return 'ES256' === $this->algorithm ? self::joined($signature) : $signature;
    }

    /**
     * OpenSSL gives ECDSA signatures as DER, a sequence of two integers; a token has the two side by side, each of the
     * curve's length (RFC 7518, section 3.4).
     */
    private static function joined(string $der): string
    {
        // 0x30 length 0x02 length R 0x02 length S; on P-256 every length is below 128 and so one byte.
        $lengthR = \ord($der[3] ?? "\0");
        $lengthS = \ord($der[5 + $lengthR] ?? "\0");
        if ("\x30" !== $der[0] || "\x02" !== $der[2] || "\x02" !== ($der[4 + $lengthR] ?? '') || \strlen($der) !== 6 + $lengthR + $lengthS) {
            throw new TokenException('OpenSSL gave a signature that is not of P-256.');
        }
        $half = static fn (string $integer): string => str_pad(ltrim($integer, "\0"), self::P256_BYTES, "\0", \STR_PAD_LEFT);

        return $half(substr($der, 4, $lengthR)) . $half(substr($der, 6 + $lengthR, $lengthS));
    }
}
