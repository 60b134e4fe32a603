<?php

declare(strict_types=1);

namespace Snoke\WsBundle\DependencyInjection;

/**
 * The values below `snoke_ws`, by their paths.
 *
 * @internal
 */
final class Values
{
    /**
     * @param array<array-key, mixed> $values
     */
    public function __construct(private array $values)
    {
    }

    /**
     * Gives null for what is not there.
     */
    public function get(string $path): mixed
    {
        $value = $this->values;
        foreach (explode('.', $path) as $key) {
            $value = \is_array($value) ? $value[$key] ?? null : null;
        }

        return $value;
    }

    public function text(string $path): ?string
    {
        $value = $this->get($path);

        return \is_scalar($value) ? (string) $value : null;
    }

    public function set(string $path, mixed $value): void
    {
        $this->values = self::with($this->values, explode('.', $path), $value);
    }

    /**
     * @return array<array-key, mixed>
     */
    public function all(): array
    {
        return $this->values;
    }

    /**
     * @param array<array-key, mixed> $values
     * @param list<string>            $keys
     *
     * @return array<array-key, mixed>
     */
    private static function with(array $values, array $keys, mixed $value): array
    {
        $key = (string) array_shift($keys);
        $below = $values[$key] ?? null;
        $values[$key] = [] === $keys ? $value : self::with(\is_array($below) ? $below : [], $keys, $value);

        return $values;
    }
}
