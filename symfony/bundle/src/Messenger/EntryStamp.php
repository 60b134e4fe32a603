<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Messenger;

use Snoke\WsBundle\Consumer\Entry;
use Symfony\Component\Messenger\Stamp\NonSendableStampInterface;

/**
 * The entry that an envelope was made of.
 */
final class EntryStamp implements NonSendableStampInterface
{
    public function __construct(public readonly Entry $entry)
    {
    }
}
