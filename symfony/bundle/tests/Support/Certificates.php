<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Support;

/**
 * An authority that nobody else knows, and one certificate by it, for one name. Servers and clients share it.
 */
final class Certificates
{
    public readonly string $authority;
    public readonly string $certificate;
    public readonly string $key;
    private readonly string $directory;

    /** @var array<string, self> */
    private static array $shared = [];

    /**
     * For 127.0.0.1. They end with the process.
     */
    public static function ofAddress(): self
    {
        return self::$shared['address'] ??= new self('IP:127.0.0.1');
    }

    /**
     * For localhost: the library below ext-amqp takes names only.
     */
    public static function ofName(): self
    {
        return self::$shared['name'] ??= new self('DNS:localhost');
    }

    private function __construct(string $name)
    {
        $this->directory = Server::directory();
        $this->authority = $this->directory . '/ca.pem';
        $this->certificate = $this->directory . '/cert.pem';
        $this->key = $this->directory . '/key.pem';
        $commands = <<<'SH'
            set -e
            new="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
            openssl req -x509 $new -subj "/CN=An authority of a test" -keyout ca.key -out ca.pem
            openssl req -x509 $new -subj "/CN=A server of a test" -CA ca.pem -CAkey ca.key -addext "subjectAltName=$name" \
                -addext "basicConstraints=critical,CA:FALSE" -keyout key.pem -out cert.pem
            SH;
        $command = sprintf('cd %s && name=%s sh -c %s 2>&1', escapeshellarg($this->directory), escapeshellarg($name), escapeshellarg($commands));
        exec($command, $output, $exit);
        if (0 !== $exit) {
            throw new \RuntimeException("openssl cannot make certificates:\n" . implode("\n", $output));
        }
    }

    /**
     * @return list<string>
     */
    public function forRedis(int $port): array
    {
        return [
            '--tls-port', (string) $port, '--tls-ca-cert-file', $this->authority, '--tls-cert-file', $this->certificate,
            '--tls-key-file', $this->key, '--tls-auth-clients', 'optional', '--tls-replication', 'yes', '--tls-cluster', 'yes',
        ];
    }

    public function __destruct()
    {
        exec('rm -rf ' . escapeshellarg($this->directory));
    }
}
