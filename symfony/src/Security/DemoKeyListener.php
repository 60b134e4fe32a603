<?php

declare(strict_types=1);

namespace App\Security;

use App\Controller\Problem;
use Symfony\Component\HttpKernel\Event\RequestEvent;

/**
 * Answers requests that lack the header X-Demo-Key, on routes that need it.
 */
final class DemoKeyListener
{
    /** The default of a route that needs the key. */
    public const ATTRIBUTE = '_demo_key';

    public function __construct(private readonly DemoKey $key)
    {
    }

    public function __invoke(RequestEvent $event): void
    {
        $request = $event->getRequest();
        if (!$request->attributes->getBoolean(self::ATTRIBUTE)) {
            return;
        }
        if (!$this->key->isSet()) {
            $event->setResponse(Problem::response(403, 'The demo has no key: set DEMO_API_KEY.'));
        } elseif (!$this->key->opens($request->headers->get('X-Demo-Key') ?? '')) {
            $event->setResponse(Problem::response(401, 'The header X-Demo-Key must be what DEMO_API_KEY is.'));
        }
    }
}
