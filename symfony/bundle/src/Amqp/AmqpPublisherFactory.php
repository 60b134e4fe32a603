<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Amqp;

use PhpAmqpLib\Connection\AMQPConnectionFactory;
use Snoke\WsBundle\Exception\MissingPackageException;

/**
 * Makes publishers by what is installed: ext-amqp, else php-amqplib.
 *
 * Nothing connects before the first message.
 */
final class AmqpPublisherFactory
{
    /**
     * @param string $setting path of the DSN below `snoke_ws`, for messages
     */
    public static function create(#[\SensitiveParameter] ?string $dsn, string $setting, AmqpTarget $target): AmqpPublisherInterface
    {
        $parsed = AmqpDsn::parse($dsn, $setting);
        if (\extension_loaded('amqp')) {
            return new ExtAmqpPublisher($parsed, $target);
        }
        if (class_exists(AMQPConnectionFactory::class)) {
            return new PhpAmqpLibPublisher($parsed, $target);
        }
        throw MissingPackageException::for('"snoke_ws.' . $setting . '"', 'installing ext-amqp, or "composer require php-amqplib/php-amqplib"');
    }
}
