<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Http;

use Snoke\WsBundle\Exception\MissingPackageException;
use Symfony\Component\HttpClient\HttpClient;
use Symfony\Contracts\HttpClient\HttpClientInterface;

/**
 * Makes an HTTP client where the application has none of its own.
 *
 * @internal
 */
final class ClientFactory
{
    /**
     * @param string $what what needs it, for the message where none can be made
     */
    public static function create(string $what): HttpClientInterface
    {
        if (!class_exists(HttpClient::class)) {
            throw MissingPackageException::for($what, '"composer require symfony/http-client"');
        }

        return HttpClient::create();
    }
}
