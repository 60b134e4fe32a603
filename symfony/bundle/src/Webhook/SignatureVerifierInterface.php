<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Webhook;

use Symfony\Component\HttpFoundation\HeaderBag;

/**
 * Tells the gateway's requests from forged ones.
 */
interface SignatureVerifierInterface
{
    /**
     * @param string      $body   the exact body
     * @param string|null $secret another secret than the configured one
     *
     * @throws RefusedWebhookException when the signature is missing, wrong or too old
     */
    public function verify(HeaderBag $headers, string $body, #[\SensitiveParameter] ?string $secret = null): void;
}
