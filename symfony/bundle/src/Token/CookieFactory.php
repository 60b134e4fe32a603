<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Token;

use Snoke\WsBundle\Setting\Setting;
use Symfony\Component\HttpFoundation\Cookie;

/**
 * Puts a token in a cookie that browsers send to the gateway and scripts cannot read.
 *
 *     $response->headers->setCookie($cookies->create($tokens->forUser($user)));
 */
final class CookieFactory
{
    private readonly string $name;
    private readonly string $path;
    private readonly string $sameSite;

    /**
     * @param string|null $publicUrl where clients connect; its path is the cookie's where that is not given
     */
    public function __construct(
        ?string $name = 'access_token',
        ?string $path = null,
        private readonly ?string $domain = null,
        private readonly bool $secure = true,
        ?string $sameSite = 'strict',
        ?string $publicUrl = null,
    ) {
        $this->name = Setting::filled('token.cookie.name', $name, 'name the cookie, such as "access_token"');
        $fromUrl = null === $publicUrl ? null : parse_url($publicUrl, \PHP_URL_PATH);
        $this->path = Setting::path('token.cookie.path', null !== $path && '' !== $path ? $path : ($fromUrl ?: '/ws'));
        $this->sameSite = Setting::choice('token.cookie.same_site', $sameSite, Setting::SAME_SITES);
        if ('none' === $this->sameSite && !$secure) {
            throw Setting::invalid('token.cookie.same_site', 'is "none", which browsers take with "snoke_ws.token.cookie.secure" only');
        }
    }

    public function create(Token $token): Cookie
    {
        return $this->cookie($token->value, $token->expiresAt);
    }

    /**
     * A cookie that removes the one before, for the answer to a sign-out.
     */
    public function clear(): Cookie
    {
        return $this->cookie('', new \DateTimeImmutable('@1'));
    }

    private function cookie(#[\SensitiveParameter] string $value, \DateTimeImmutable $end): Cookie
    {
        $domain = null === $this->domain || '' === $this->domain ? null : $this->domain;

        return new Cookie($this->name, $value, $end, $this->path, $domain, $this->secure, true, false, $this->sameSite);
    }
}
