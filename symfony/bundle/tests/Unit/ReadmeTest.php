<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\DependencyInjection\Configuration;
use Symfony\Component\Config\Definition\Processor;
use Symfony\Component\Yaml\Yaml;

/**
 * What the README says holds.
 */
final class ReadmeTest extends TestCase
{
    private const BUNDLE = __DIR__ . '/../..';

    public function testItsConfigurationsAreValid(): void
    {
        $count = 0;
        foreach ($this->blocks('yaml') as $block) {
            $settings = Yaml::parse($block);
            if (isset($settings['snoke_ws'])) {
                (new Processor())->processConfiguration(new Configuration(), [$settings['snoke_ws']]);
                ++$count;
            }
        }
        self::assertSame(5, $count);
    }

    public function testItsNamesExist(): void
    {
        $text = (string) file_get_contents(self::BUNDLE . '/README.md');
        preg_match_all('/Snoke\\\\WsBundle\\\\[\w\\\\]+\w/', $text, $full);
        preg_match_all('/^\| `([A-Z]\w+\\\\[\w\\\\]+)` \|/m', $text, $short);
        $names = array_unique([...$full[0], ...array_map(static fn (string $name): string => 'Snoke\\WsBundle\\' . $name, $short[1])]);

        self::assertGreaterThan(10, \count($names));
        foreach ($names as $name) {
            self::assertTrue(class_exists($name) || interface_exists($name) || trait_exists($name), $name);
        }
    }

    /**
     * @return list<string>
     */
    private function blocks(string $language): array
    {
        preg_match_all('/^```' . $language . '\n(.*?)^```$/ms', (string) file_get_contents(self::BUNDLE . '/README.md'), $found);

        return $found[1];
    }
}
