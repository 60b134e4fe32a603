<?php

declare(strict_types=1);

namespace App\Security;

/**
 * The key that the demo asks for (DEMO_API_KEY). Without one nothing opens.
 */
final class DemoKey
{
    public function __construct(#[\SensitiveParameter] private readonly string $key)
    {
    }

    public function isSet(): bool
    {
        return '' !== $this->key;
    }

    public function opens(#[\SensitiveParameter] string $presented): bool
    {
        return $this->isSet() && hash_equals($this->key, $presented);
    }
}
