<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tracing;

/**
 * A span while its operation runs: what to send along, and where to put what is only known in the end.
 */
final class ActiveSpan
{
    /** @var array<string, string|int|float|bool|null> */
    private array $attributes = [];
    private ?string $error = null;

    /**
     * @param string|null $traceparent W3C traceparent to send along, if there is a trace
     */
    public function __construct(public readonly ?string $traceparent = null)
    {
    }

    /**
     * Sets an attribute; never secrets or payloads.
     */
    public function set(string $name, string|int|float|bool|null $value): void
    {
        $this->attributes[$name] = $value;
    }

    /**
     * Marks the operation as failed where no exception says so.
     *
     * @param non-empty-string $type such as "500" or the class of an exception; never its message
     */
    public function fail(string $type): void
    {
        $this->error = $type;
    }

    public function error(): ?string
    {
        return $this->error;
    }

    /**
     * @return array<string, string|int|float|bool|null> what was set
     */
    public function attributes(): array
    {
        return $this->attributes;
    }
}
