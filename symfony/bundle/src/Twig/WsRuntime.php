<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Twig;

use Snoke\WsBundle\Exception\TokenException;
use Snoke\WsBundle\Setting\Setting;
use Snoke\WsBundle\Token\TokenFactoryInterface;
use Symfony\Component\Security\Core\Authentication\Token\Storage\TokenStorageInterface;
use Symfony\Component\Security\Core\User\UserInterface;
use Twig\Extension\RuntimeExtensionInterface;

/**
 * What the functions of {@see WsExtension} do.
 */
final class WsRuntime implements RuntimeExtensionInterface
{
    /** Options of ws_token(). */
    private const OPTIONS = ['user', 'subjects', 'claims', 'ttl'];

    public function __construct(
        private readonly TokenFactoryInterface $tokens,
        private readonly ?string $publicUrl,
        private readonly ?TokenStorageInterface $storage = null,
    ) {
    }

    /**
     * Where clients connect.
     */
    public function url(): string
    {
        return Setting::url('public_url', $this->publicUrl, ['ws', 'wss'], 'wss://app.example/ws');
    }

    /**
     * A token for the signed-in user, or for the option `user`; null for nobody.
     *
     * @param array{user?: UserInterface|string|int, subjects?: list<string>, claims?: array<string, mixed>, ttl?: int} $options
     */
    public function token(array $options = []): ?string
    {
        $unknown = array_diff(array_keys($options), self::OPTIONS);
        if ([] !== $unknown) {
            throw new TokenException(sprintf('ws_token() has no option "%s"; it has "%s".', implode('", "', $unknown), implode('", "', self::OPTIONS)));
        }
        $user = $options['user'] ?? $this->storage?->getToken()?->getUser();
        if (null === $user) {
            return null;
        }

        return $this->tokens->forUser($user, $options['subjects'] ?? [], $options['claims'] ?? [], $options['ttl'] ?? null)->value;
    }
}
