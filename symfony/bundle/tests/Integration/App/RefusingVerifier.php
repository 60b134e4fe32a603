<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Integration\App;

use Snoke\WsBundle\Webhook\RefusedWebhookException;
use Snoke\WsBundle\Webhook\SignatureVerifierInterface;
use Symfony\Component\HttpFoundation\HeaderBag;

final class RefusingVerifier implements SignatureVerifierInterface
{
    public function verify(HeaderBag $headers, string $body, #[\SensitiveParameter] ?string $secret = null): void
    {
        throw new RefusedWebhookException('refused by the application');
    }
}
