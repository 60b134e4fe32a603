<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Amqp;

use Snoke\WsBundle\Exception\AmqpException;
use Snoke\WsBundle\Setting\Setting;

/**
 * Where a RabbitMQ is: `amqp://user:password@host:5672/vhost`, `amqps://…` for TLS.
 *
 * In the vhost `/` is written `%2F`; no vhost is `/`. Options: `cacert`, `cert`, `key` (files) and `verify=0` for TLS.
 */
final class AmqpDsn
{
    private function __construct(
        public readonly bool $tls,
        public readonly string $host,
        public readonly int $port,
        public readonly string $user,
        #[\SensitiveParameter] public readonly string $password,
        public readonly string $vhost,
        public readonly ?string $caFile,
        public readonly ?string $certFile,
        public readonly ?string $keyFile,
        public readonly bool $verify,
    ) {
    }

    /**
     * @param string $path the setting below `snoke_ws`, for messages
     */
    public static function parse(#[\SensitiveParameter] ?string $dsn, string $path): self
    {
        $example = 'amqp://guest:guest@localhost:5672/%2f';
        $dsn = Setting::dsn($path, $dsn, ['amqp', 'amqps'], $example);
        $parts = parse_url($dsn) ?: [];
        $host = $parts['host'] ?? '';
        if ('' === $host) {
            throw Setting::invalid($path, sprintf('is no DSN of RabbitMQ: write "%s"', $example));
        }
        $tls = 'amqps' === strtolower($parts['scheme'] ?? '');
        parse_str($parts['query'] ?? '', $options);
        $vhost = rawurldecode(substr($parts['path'] ?? '', 1));
        $text = static fn (string $name): ?string => \is_string($options[$name] ?? null) && '' !== $options[$name] ? $options[$name] : null;

        return new self(
            $tls,
            trim($host, '[]'),
            $parts['port'] ?? ($tls ? 5671 : 5672),
            rawurldecode($parts['user'] ?? 'guest'),
            rawurldecode($parts['pass'] ?? 'guest'),
            '' === $vhost ? '/' : $vhost,
            $text('cacert'),
            $text('cert'),
            $text('key'),
            '0' !== $text('verify') && 'false' !== $text('verify'),
        );
    }

    /**
     * Where it is, as messages may have it.
     */
    public function address(): string
    {
        return $this->host . ':' . $this->port;
    }

    /**
     * The file of authorities for ext-amqp, which without one does not speak TLS at all; null if it is not to.
     */
    public function authorities(): ?string
    {
        if (!$this->tls || null !== $this->caFile) {
            return $this->tls ? $this->caFile : null;
        }
        $places = \function_exists('openssl_get_cert_locations') ? openssl_get_cert_locations() : [];
        $files = [\ini_get('openssl.cafile') ?: '', $places['default_cert_file'] ?? '', '/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt'];
        foreach ($files as $file) {
            if ('' !== $file && is_file($file)) {
                return $file;
            }
        }
        throw new AmqpException(sprintf('RabbitMQ at %s: no file of certificate authorities is found for TLS; add "?cacert=FILE" to the DSN.', $this->address()));
    }
}
