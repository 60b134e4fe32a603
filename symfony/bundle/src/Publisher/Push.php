<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Publisher;

use Snoke\WsBundle\Exception\InvalidPushException;

/**
 * A push as it is sent: checked, and written down as JSON once.
 */
final class Push
{
    /** The gateway refuses more. */
    public const MAX_SUBJECTS = 10_000;

    /** Numbers keep their fraction, so that clients get the type that was meant. */
    private const FLAGS = \JSON_THROW_ON_ERROR | \JSON_UNESCAPED_SLASHES | \JSON_UNESCAPED_UNICODE | \JSON_PRESERVE_ZERO_FRACTION;

    /**
     * @param list<string> $subjects
     */
    private function __construct(
        public readonly array $subjects,
        public readonly ?string $traceparent,
        public readonly string $json,
    ) {
    }

    /**
     * @param array<mixed> $subjects
     *
     * @throws InvalidPushException
     */
    public static function create(array $subjects, mixed $payload, ?string $traceparent = null): self
    {
        if ([] === $subjects) {
            throw new InvalidPushException('A push needs at least one subject.');
        }
        if (\count($subjects) > self::MAX_SUBJECTS) {
            throw new InvalidPushException(sprintf('A push may have %d subjects, and this one has %d: send several.', self::MAX_SUBJECTS, \count($subjects)));
        }
        $names = [];
        foreach (array_values($subjects) as $at => $subject) {
            if (!\is_string($subject)) {
                throw new InvalidPushException(sprintf('Subject %d must be a string, and is %s.', $at, get_debug_type($subject)));
            }
            // Of a subject that begins with something visible in ASCII no more needs to be known here.
            $first = $subject[0] ?? '';
            if (($first <= ' ' || $first >= "\x7f") && 1 !== preg_match('/[^\s\p{Z}\x{85}]/u', $subject)) {
                throw new InvalidPushException(sprintf('Subject %d is blank, or not UTF-8.', $at));
            }
            $names[] = $subject;
        }
        $push = ['subjects' => $names, 'payload' => $payload];
        if (null !== $traceparent) {
            $push['traceparent'] = $traceparent;
        }
        try {
            return new self($names, $traceparent, json_encode($push, \JSON_THROW_ON_ERROR | self::FLAGS));
        } catch (\JsonException $exception) {
            throw new InvalidPushException(sprintf('The push cannot be written as JSON: %s.', $exception->getMessage()), 0, $exception);
        }
    }

    /**
     * Names the subjects for logs and traces, without growing with their number.
     */
    public function summary(): string
    {
        $shown = implode(', ', \array_slice($this->subjects, 0, 3));

        return \count($this->subjects) > 3 ? sprintf('%s and %d more', $shown, \count($this->subjects) - 3) : $shown;
    }
}
