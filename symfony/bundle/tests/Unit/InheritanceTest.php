<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit;

use PHPUnit\Framework\TestCase;

/**
 * Every class fits what it inherits from Symfony 8 and Twig 4, whatever is installed.
 */
final class InheritanceTest extends TestCase
{
    public function testEveryClassFitsTheNewestSymfony(): void
    {
        [$code, $output] = self::inherit(['Snoke\\WsBundle\\' => self::bundle() . '/src']);

        self::assertSame(0, $code, $output);
        self::assertGreaterThan(150, (int) $output);
    }

    public function testTheDemoDoesToo(): void
    {
        $demo = \dirname(self::bundle()) . '/src';
        if (!is_file($demo . '/Kernel.php')) {
            self::markTestSkipped('The bundle is installed without the demo.');
        }

        [$code, $output] = self::inherit(['App\\' => $demo, 'Snoke\\WsBundle\\' => self::bundle() . '/src']);

        self::assertSame(0, $code, $output);
    }

    public function testAMethodWithoutItsTypeIsFound(): void
    {
        $directory = sys_get_temp_dir() . '/ws-inheritance-' . bin2hex(random_bytes(6));
        mkdir($directory);
        file_put_contents($directory . '/Old.php', <<<'PHP'
            <?php
            namespace Wrong;
            final class Old extends \Symfony\Component\Console\Command\Command
            {
                protected function execute($input, $output)
                {
                }
            }
            PHP);
        try {
            [$code, $output] = self::inherit(['Wrong\\' => $directory]);
        } finally {
            unlink($directory . '/Old.php');
            rmdir($directory);
        }

        self::assertNotSame(0, $code);
        self::assertStringContainsString('Old::execute($input, $output) must be compatible', $output);
    }

    /**
     * @param array<string, string> $directories by the prefix of their classes
     *
     * @return array{int, string} exit code and output
     */
    private static function inherit(array $directories): array
    {
        $command = [\PHP_BINARY, '-d', 'display_errors=stderr', \dirname(__DIR__) . '/Support/inherit.php'];
        foreach ($directories as $prefix => $directory) {
            array_push($command, $prefix, $directory);
        }
        exec(implode(' ', array_map('escapeshellarg', $command)) . ' 2>&1', $lines, $code);

        return [$code, implode("\n", $lines)];
    }

    private static function bundle(): string
    {
        return \dirname(__DIR__, 2);
    }
}
