<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * How spans name users: by the same keyed hash as the gateway's, so that both sides' spans of a user can be found by it,
 * or by their ids.
 */
final class UserNames
{
    private readonly ?string $key;

    /**
     * @param string|null $key    the gateway's tracing.user_hash_key
     * @param string|null $apiKey the gateway's server.api_key, which it uses where it has no such key
     */
    public function __construct(
        private readonly bool $hashed,
        #[\SensitiveParameter] ?string $key = null,
        #[\SensitiveParameter] ?string $apiKey = null,
    ) {
        $secret = null === $key || '' === $key ? (string) $apiKey : $key;
        $this->key = '' === $secret ? null : hash('sha256', "wsgw user hash\n" . $secret, true);
    }

    /**
     * The attribute of a user; none where a hash is wanted and there is no key: without one it could be guessed.
     *
     * @return array<string, string>
     */
    public function attributes(string $userId): array
    {
        if (!$this->hashed) {
            return ['user.id' => $userId];
        }

        return null === $this->key ? [] : ['user.hash' => substr(hash_hmac('sha256', $userId, $this->key), 0, 32)];
    }
}
