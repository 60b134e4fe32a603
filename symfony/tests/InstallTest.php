<?php

declare(strict_types=1);

namespace App\Tests;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Tests\Support\Gateway;
use Snoke\WsBundle\Tests\Support\Server;

/**
 * Installs the bundle in a bare application, by nothing but what docs/symfony.md says below "In your own application".
 */
final class InstallTest extends TestCase
{
    private string $directory;
    private string $shop;
    private int $gatewayPort;
    private int $webPort;

    /** @var list<Server> */
    private array $servers = [];

    protected function setUp(): void
    {
        $this->directory = Server::directory();
        $this->shop = $this->directory . '/shop';
        $this->gatewayPort = Server::port();
        $this->webPort = Server::port();
        symlink(\dirname(__DIR__, 2), $this->directory . '/wsgw');
        foreach (self::application() as $name => $text) {
            $this->write($name, $text);
        }
        chmod($this->shop . '/bin/console', 0755);
    }

    protected function tearDown(): void
    {
        foreach ($this->servers as $server) {
            $server->remove();
        }
        exec('rm -rf ' . escapeshellarg($this->directory));
    }

    public function testFromComposerToTheFirstMessage(): void
    {
        [$install, $makeKey, $runGateway] = $this->blocks('sh');
        [$settings, $routes] = $this->blocks('yaml');
        [$variables] = $this->blocks('ini');
        $this->shell('composer install --quiet --no-interaction');
        $this->shell(str_replace('composer require', 'composer require --no-interaction', $install));
        $line = "Snoke\\WsBundle\\SnokeWsBundle::class => ['all' => true]";
        self::assertStringContainsString("add `$line` to `config/bundles.php`", self::section());
        $this->write('config/bundles.php', "<?php\n\nreturn [Symfony\\Bundle\\FrameworkBundle\\FrameworkBundle::class => ['all' => true], $line];\n");

        // What Flex runs after it: nothing is configured yet.
        $this->shell('bin/console cache:clear');
        self::assertSame(['secret', 'webhook', 'gateway', 'token'], $this->lacks());
        $this->write('config/packages/snoke_ws.yaml', $settings);
        $this->write('.env.local', preg_replace('/=change.*/', '=', $variables));
        self::assertSame(['secret', 'webhook', 'api key', 'token'], $this->lacks());
        $this->write('config/routes/snoke_ws.yaml', $routes);
        self::assertSame(['secret', 'api key', 'token'], $this->lacks());
        $this->shell($makeKey);
        self::assertSame(['secret', 'api key', 'client'], $this->lacks());
        $this->write('.env.local', $variables);
        self::assertSame(['gateway', 'client'], $this->lacks());
        $this->start('exec ' . PHP_BINARY . " -S 127.0.0.1:{$this->webPort} -t public public/index.php");
        $runGateway = str_replace('wsgw run', 'exec ' . escapeshellarg(Gateway::binary()) . ' run', $runGateway);
        $this->start("export WSGW_LISTEN=127.0.0.1:{$this->gatewayPort}\n" . $runGateway);
        foreach ([$this->webPort, $this->gatewayPort] as $port) {
            Server::wait('a server', static fn (): bool => Server::accepts($port));
        }
        self::assertSame([], $this->lacks());
        self::assertStringContainsString(' ok    event ', $this->shell('bin/console ws:ping'));
    }

    /**
     * The steps that ws:check says have failed.
     *
     * @return list<string>
     */
    private function lacks(): array
    {
        $answer = json_decode($this->shell('bin/console ws:check --format=json || true'), true);
        self::assertIsArray($answer);
        $failed = array_filter($answer['steps'], static fn (array $step): bool => 'failed' === $step['state']);
        foreach ($failed as $step) {
            self::assertNotEmpty($step['hint'], 'it says what to do');
        }

        return array_column($failed, 'name');
    }

    private function shell(string $commands): string
    {
        // The application's own variables must not come from whoever runs the test.
        $process = proc_open(
            ['env', '-i', ...$this->environment(), 'bash', '-euc', $commands],
            [0 => ['file', '/dev/null', 'r'], 1 => ['pipe', 'w'], 2 => ['file', $this->directory . '/errors', 'w']],
            $pipes,
            $this->shop,
        );
        self::assertIsResource($process);
        $output = (string) stream_get_contents($pipes[1]);
        self::assertSame(0, proc_close($process), $commands . "\n" . $output . file_get_contents($this->directory . '/errors'));

        return $output;
    }

    private function start(string $commands): void
    {
        $directory = Server::directory();
        $this->servers[] = new Server(['env', '-i', '-C', $this->shop, ...$this->environment(), 'bash', '-euc', $commands], $directory);
    }

    /**
     * @return list<string>
     */
    private function environment(): array
    {
        $home = getenv('COMPOSER_HOME') ?: \dirname(__DIR__, 2) . '/target/composer';
        $kept = ['PATH=' . getenv('PATH'), 'HOME=' . $this->directory, 'COMPOSER_ALLOW_SUPERUSER=1'];

        return is_dir($home) ? [...$kept, 'COMPOSER_HOME=' . $home] : $kept;
    }

    private function write(string $name, string $text): void
    {
        is_dir(\dirname($this->shop . '/' . $name)) || mkdir(\dirname($this->shop . '/' . $name), 0777, true);
        file_put_contents($this->shop . '/' . $name, $text);
        // Symfony sees a change by its time, in seconds.
        exec('rm -rf ' . escapeshellarg($this->shop . '/var'));
    }

    private static function section(): string
    {
        $page = (string) file_get_contents(\dirname(__DIR__, 2) . '/docs/symfony.md');

        return explode('### Publish', explode('## In your own application', $page)[1])[0];
    }

    /**
     * @return list<string>
     */
    private function blocks(string $language): array
    {
        preg_match_all('/^```' . $language . '\n(.*?)^```$/ms', self::section(), $found);

        return array_map(fn (string $block): string => strtr($block, [
            '127.0.0.1:8000' => '127.0.0.1:' . $this->gatewayPort,
            '127.0.0.1:8080' => '127.0.0.1:' . $this->webPort,
        ]), $found[1]);
    }

    /**
     * @return array<string, string> the files of an application that has nothing but the framework
     */
    private static function application(): array
    {
        $versions = '^5.4 || ^6.4 || ^7.0 || ^8.0';
        $start = "require dirname(__DIR__) . '/vendor/autoload.php';\n(new Symfony\\Component\\Dotenv\\Dotenv())->bootEnv(dirname(__DIR__) . '/.env');\n";

        return [
            'composer.json' => json_encode([
                'name' => 'acme/shop',
                'type' => 'project',
                'require' => [
                    'symfony/console' => $versions,
                    'symfony/dotenv' => $versions,
                    'symfony/framework-bundle' => $versions,
                    'symfony/yaml' => $versions,
                ],
                'autoload' => ['psr-4' => ['Acme\\' => 'src/']],
            ], \JSON_THROW_ON_ERROR),
            '.env' => "APP_ENV=dev\n",
            'bin/console' => "#!/usr/bin/env php\n<?php\n$start(new Symfony\\Bundle\\FrameworkBundle\\Console\\Application(new Acme\\Kernel('dev', true)))->run();\n",
            'public/index.php' => <<<PHP
                <?php
                {$start}
                \$kernel = new Acme\\Kernel('dev', true);
                \$request = Symfony\\Component\\HttpFoundation\\Request::createFromGlobals();
                \$response = \$kernel->handle(\$request)->send();
                \$kernel->terminate(\$request, \$response);
                PHP,
            'src/Kernel.php' => <<<'PHP'
                <?php

                namespace Acme;

                final class Kernel extends \Symfony\Component\HttpKernel\Kernel
                {
                    use \Symfony\Bundle\FrameworkBundle\Kernel\MicroKernelTrait;
                }
                PHP,
            'config/bundles.php' => "<?php\n\nreturn [Symfony\\Bundle\\FrameworkBundle\\FrameworkBundle::class => ['all' => true]];\n",
            'config/packages/framework.yaml' => "framework:\n    secret: test\n    http_method_override: false\n    router: { utf8: true }\n",
            'config/services.yaml' => "services: ~\n",
            'config/routes.yaml' => '',
        ];
    }
}
