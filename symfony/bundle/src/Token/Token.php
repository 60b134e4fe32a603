<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Token;

/**
 * A signed token, and when it ends.
 */
final class Token implements \Stringable, \JsonSerializable
{
    public function __construct(
        #[\SensitiveParameter] public readonly string $value,
        public readonly \DateTimeImmutable $expiresAt,
    ) {
    }

    public function __toString(): string
    {
        return $this->value;
    }

    /**
     * @return array{token: string, expires_at: int} what a client needs to connect, and to renew in time
     */
    public function jsonSerialize(): array
    {
        return ['token' => $this->value, 'expires_at' => $this->expiresAt->getTimestamp()];
    }

    /**
     * Keeps the token out of dumps.
     *
     * @return array<string, mixed>
     */
    public function __debugInfo(): array
    {
        return ['value' => '…', 'expiresAt' => $this->expiresAt];
    }
}
