<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Exception;

/**
 * A setting needs a package or an extension that is not installed.
 */
final class MissingPackageException extends \LogicException implements ExceptionInterface
{
    /** @param string $what    what needs it, such as a setting and its value
     *  @param string $install what to install, in words that can be typed
     */
    public static function for(string $what, string $install): self
    {
        return new self(sprintf('%s needs a package that is not installed. Try %s.', $what, $install));
    }
}
