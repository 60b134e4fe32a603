<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Token;

use Snoke\WsBundle\Exception\TokenException;
use Snoke\WsBundle\Setting\Setting;
use Snoke\WsBundle\User\UserIdResolver;
use Snoke\WsBundle\User\UserIdResolverInterface;
use Symfony\Component\Security\Core\User\UserInterface;

/**
 * Makes JSON Web Tokens (RFC 7519) that the gateway's `auth` stage accepts.
 *
 * The key is read with the first token, so that an application without one can do everything else.
 */
final class TokenFactory implements TokenFactoryInterface
{
    /** The gateway refuses more subjects in a token, and longer ones. */
    private const MAX_SUBJECTS = 1000;
    private const MAX_SUBJECT_CHARACTERS = 256;

    private const FLAGS = \JSON_THROW_ON_ERROR | \JSON_UNESCAPED_SLASHES | \JSON_UNESCAPED_UNICODE | \JSON_PRESERVE_ZERO_FRACTION;

    private ?SigningKey $signingKey = null;
    private readonly string $userIdClaim;
    /** @var \Closure(): int */
    private readonly \Closure $now;

    /**
     * @param array<string, mixed>  $claims of every token
     * @param \Closure(): int|null  $now    Unix seconds
     */
    public function __construct(
        private readonly ?string $algorithm,
        #[\SensitiveParameter] private readonly ?string $key,
        private readonly ?string $keyFile = null,
        #[\SensitiveParameter] private readonly ?string $passphrase = null,
        private readonly ?string $keyId = null,
        private readonly int $ttlSeconds = 3600,
        ?string $userIdClaim = 'user_id',
        private readonly ?string $issuer = null,
        private readonly ?string $audience = null,
        private readonly array $claims = [],
        private readonly UserIdResolverInterface $users = new UserIdResolver(),
        ?\Closure $now = null,
    ) {
        $this->userIdClaim = Setting::filled('token.user_id_claim', $userIdClaim, 'name a claim, such as "user_id"');
        Setting::number('token.ttl_seconds', $ttlSeconds, 1, 31536000);
        $this->now = $now ?? time(...);
    }

    public function forUser(
        UserInterface|string|int $user,
        array $subjects = [],
        array $claims = [],
        ?int $ttlSeconds = null,
    ): Token {
        if (null !== $ttlSeconds && $ttlSeconds < 1) {
            throw new TokenException('A token must last a second at least.');
        }
        $now = ($this->now)();
        $end = $now + ($ttlSeconds ?? $this->ttlSeconds);
        $own = [$this->userIdClaim => $this->users->resolve($user), 'iat' => $now, 'exp' => $end];
        if (null !== $this->issuer && '' !== $this->issuer) {
            $own['iss'] = $this->issuer;
        }
        if (null !== $this->audience && '' !== $this->audience) {
            $own['aud'] = $this->audience;
        }
        if ([] !== $subjects) {
            $own['subjects'] = self::subjects($subjects);
        }
        $taken = array_intersect_key($claims, $own + ['subjects' => 1]);
        if ([] !== $taken) {
            throw new TokenException(sprintf('The claim "%s" is set by the factory: use its parameters, or the settings.', implode('", "', array_keys($taken))));
        }

        return new Token($this->signed($own + $claims + $this->claims), new \DateTimeImmutable('@' . $end));
    }

    /**
     * @param array<string, mixed> $claims
     */
    private function signed(array $claims): string
    {
        $key = $this->signingKey ??= SigningKey::create($this->algorithm, $this->key(), $this->passphrase);
        $header = ['typ' => 'JWT', 'alg' => $key->algorithm];
        if (null !== $this->keyId && '' !== $this->keyId) {
            $header['kid'] = $this->keyId;
        }
        try {
            $input = self::base64Url(json_encode($header, \JSON_THROW_ON_ERROR | self::FLAGS)) . '.' . self::base64Url(json_encode($claims, \JSON_THROW_ON_ERROR | self::FLAGS));
        } catch (\JsonException $exception) {
            throw new TokenException(sprintf('The claims cannot be written as JSON: %s.', $exception->getMessage()), 0, $exception);
        }

        return $input . '.' . self::base64Url($key->sign($input));
    }

    private function key(): string
    {
        if (null !== $this->key && '' !== $this->key) {
            return $this->key;
        }
        if (null === $this->keyFile || '' === $this->keyFile) {
            throw new TokenException('There is no key to sign tokens with: set "snoke_ws.token.key_file" (or "snoke_ws.token.key").');
        }
        $key = is_file($this->keyFile) && is_readable($this->keyFile) ? file_get_contents($this->keyFile) : false;
        if (false === $key) {
            throw new TokenException(sprintf('The file of "snoke_ws.token.key_file", "%s", is not there or cannot be read.', $this->keyFile));
        }

        // A text file's last line break is not part of a secret; to the gateway it is not either.
        return 'HS256' === $this->algorithm ? rtrim($key, "\r\n") : $key;
    }

    /**
     * @param array<mixed> $subjects
     *
     * @return list<string>
     */
    private static function subjects(array $subjects): array
    {
        if (\count($subjects) > self::MAX_SUBJECTS) {
            throw new TokenException(sprintf('A token may name %d subjects, and this one %d.', self::MAX_SUBJECTS, \count($subjects)));
        }
        $names = [];
        foreach (array_values($subjects) as $at => $subject) {
            $pattern = '/^(?=.*[^\s\p{Z}\x{85}]).{1,' . self::MAX_SUBJECT_CHARACTERS . '}$/suD';
            if (!\is_string($subject) || 1 !== preg_match($pattern, $subject)) {
                throw new TokenException(sprintf('Subject %d of the token must be a string of 1 to %d characters.', $at, self::MAX_SUBJECT_CHARACTERS));
            }
            $names[] = $subject;
        }

        return array_values(array_unique($names));
    }

    private static function base64Url(string $bytes): string
    {
        return rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
    }
}
