<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Twig;

use Twig\Extension\AbstractExtension;
use Twig\TwigFunction;

/**
 * Gives templates `ws_url()` and `ws_token()`.
 */
final class WsExtension extends AbstractExtension
{
    /**
     * @return list<TwigFunction>
     */
    public function getFunctions(): array
    {
        return [
            new TwigFunction('ws_url', [WsRuntime::class, 'url']),
            new TwigFunction('ws_token', [WsRuntime::class, 'token']),
        ];
    }
}
