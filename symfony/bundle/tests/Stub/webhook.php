<?php

// What symfony/webhook, symfony/remote-event (6.3) and the request matchers (6.2) look like from outside, for where
// only an older Symfony is installed.

declare(strict_types=1);

namespace Symfony\Component\RemoteEvent {
    if (!class_exists(RemoteEvent::class)) {
        class RemoteEvent
        {
            public function __construct(private readonly string $name, private readonly string $id, private readonly array $payload)
            {
            }

            public function getName(): string
            {
                return $this->name;
            }

            public function getId(): string
            {
                return $this->id;
            }

            public function getPayload(): array
            {
                return $this->payload;
            }
        }
    }
}

namespace Symfony\Component\RemoteEvent\Consumer {
    use Symfony\Component\RemoteEvent\RemoteEvent;

    if (!interface_exists(ConsumerInterface::class)) {
        interface ConsumerInterface
        {
            public function consume(RemoteEvent $event): void;
        }
    }
}

namespace Symfony\Component\HttpFoundation {
    if (!class_exists(ChainRequestMatcher::class)) {
        class ChainRequestMatcher implements RequestMatcherInterface
        {
            public function __construct(private readonly iterable $matchers)
            {
            }

            public function matches(Request $request): bool
            {
                foreach ($this->matchers as $matcher) {
                    if (!$matcher->matches($request)) {
                        return false;
                    }
                }

                return true;
            }
        }
    }
}

namespace Symfony\Component\HttpFoundation\RequestMatcher {
    use Symfony\Component\HttpFoundation\Request;
    use Symfony\Component\HttpFoundation\RequestMatcherInterface;

    if (!class_exists(MethodRequestMatcher::class)) {
        class MethodRequestMatcher implements RequestMatcherInterface
        {
            public function __construct(private readonly array|string $methods)
            {
            }

            public function matches(Request $request): bool
            {
                return \in_array($request->getMethod(), (array) $this->methods, true);
            }
        }
    }
}

namespace Symfony\Component\Webhook\Exception {
    use Symfony\Component\HttpKernel\Exception\HttpException;

    if (!class_exists(RejectWebhookException::class)) {
        class RejectWebhookException extends HttpException
        {
        }
    }
}

namespace Symfony\Component\Webhook\Client {
    use Symfony\Component\HttpFoundation\Request;
    use Symfony\Component\HttpFoundation\RequestMatcherInterface;
    use Symfony\Component\RemoteEvent\RemoteEvent;
    use Symfony\Component\Webhook\Exception\RejectWebhookException;

    if (!class_exists(AbstractRequestParser::class)) {
        abstract class AbstractRequestParser
        {
            public function parse(Request $request, #[\SensitiveParameter] string $secret): RemoteEvent|array|null
            {
                if (!$this->getRequestMatcher()->matches($request)) {
                    throw new RejectWebhookException(406, 'Request does not match.');
                }

                return $this->doParse($request, $secret);
            }

            abstract protected function getRequestMatcher(): RequestMatcherInterface;

            abstract protected function doParse(Request $request, #[\SensitiveParameter] string $secret): RemoteEvent|array|null;
        }
    }
}
