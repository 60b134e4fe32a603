<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DependencyInjection\Section;

use Symfony\Component\Config\Definition\Builder\NodeBuilder;

/**
 * `snoke_ws.token`: the tokens that clients present to the gateway.
 *
 * @internal
 */
final class TokenSection
{
    public static function add(NodeBuilder $root): void
    {
        $nodes = $root->arrayNode('token')
            ->info('The tokens (JWT) that clients connect with. Nothing is signed unless a key is set.')
            ->addDefaultsIfNotSet()
            ->children();
        $nodes->scalarNode('algorithm')
            ->info('"RS256" or "ES256" = the gateway gets the public key only; "HS256" = both sides share one secret. The gateway\'s auth.jwt.algorithm.')
            ->example('RS256')
            ->defaultValue('RS256');
        $nodes->scalarNode('key')
            ->info('The private key as PEM, or with HS256 the secret, of at least 32 bytes.')
            ->example('%env(WS_TOKEN_KEY)%')
            ->defaultNull();
        $nodes->scalarNode('key_file')
            ->info('A file that holds it, instead of key.')
            ->example('%kernel.project_dir%/config/ws/private.pem')
            ->defaultNull();
        $nodes->scalarNode('passphrase')
            ->info('What the private key is encrypted with, if it is.')
            ->example('%env(WS_TOKEN_PASSPHRASE)%')
            ->defaultNull();
        $nodes->scalarNode('key_id')
            ->info('The token\'s kid, by which a gateway with several keys (JWKS) finds this one.')
            ->example('2026-01')
            ->defaultNull();
        $nodes->integerNode('ttl_seconds')
            ->info('Seconds that a token lasts, from 1 to 31536000. A connection ends with its token unless the client renews it.')
            ->example('3600')
            ->defaultValue(3600);
        $nodes->scalarNode('user_id_claim')
            ->info('The claim that holds the user\'s id; the gateway\'s auth.jwt.user_id_claim.')
            ->example('user_id')
            ->defaultValue('user_id');
        $nodes->scalarNode('issuer')
            ->info('The claim iss; the gateway\'s auth.jwt.issuer.')
            ->example('https://app.example')
            ->defaultNull();
        $nodes->scalarNode('audience')
            ->info('The claim aud; the gateway\'s auth.jwt.audience.')
            ->example('ws')
            ->defaultNull();
        $nodes->arrayNode('claims')
            ->info('Further claims of every token.')
            ->example(['tenant' => 'acme'])
            ->normalizeKeys(false)
            ->useAttributeAsKey('name')
            ->variablePrototype();
        $cookie = $nodes->arrayNode('cookie')
            ->info('A cookie that carries the token, for browsers. The gateway must have "cookie" in auth.token_sources, and server.allowed_origins set.')
            ->addDefaultsIfNotSet()
            ->children();
        $cookie->scalarNode('name')
            ->info('Its name; the gateway\'s auth.cookie_name.')
            ->example('access_token')
            ->defaultValue('access_token');
        $cookie->scalarNode('path')
            ->info('Path that it is sent to; the gateway\'s server.path. Default: that of public_url, else "/ws".')
            ->example('/ws')
            ->defaultNull();
        $cookie->scalarNode('domain')
            ->info('Domain that it is sent to, where the gateway has a host of its own below the application\'s domain.')
            ->example('app.example')
            ->defaultNull();
        $cookie->booleanNode('secure')
            ->info('Whether it is only sent over TLS. Browsers make an exception for localhost.')
            ->example('true')
            ->defaultTrue();
        $cookie->scalarNode('same_site')
            ->info('"strict", "lax", or "none" (which needs secure).')
            ->example('strict')
            ->defaultValue('strict');
    }
}
