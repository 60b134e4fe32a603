<?php

declare(strict_types=1);

namespace App\Tests;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\DependencyInjection\Configuration;
use Symfony\Component\Config\Definition\ArrayNode;
use Symfony\Component\Config\Definition\NodeInterface;
use Symfony\Component\Config\Definition\Processor;
use Symfony\Component\Config\Definition\PrototypedArrayNode;
use Symfony\Component\Yaml\Yaml;

/**
 * What docs/symfony.md shows is right.
 */
final class DocsTest extends TestCase
{
    private const PAGE = __DIR__ . '/../../docs/symfony.md';

    public function testItsConfigurationsAreValid(): void
    {
        $count = 0;
        $first = null;
        foreach ($this->blocks('yaml') as $block) {
            $settings = Yaml::parse($block);
            self::assertMatchesRegularExpression('~^# config/[\w/]+\.yaml\n~', $block, 'a block names its file');
            if (isset($settings['snoke_ws']) && !isset($settings['snoke_ws']['resource'])) {
                // The others are additions to the first.
                $first ??= $settings['snoke_ws'];
                (new Processor())->processConfiguration(new Configuration(), [$first, $settings['snoke_ws']]);
                ++$count;
            }
        }
        self::assertSame(3, $count);
    }

    public function testItsCodeIsPhpWithNamesThatExist(): void
    {
        $blocks = $this->blocks('php');
        self::assertCount(3, $blocks);
        foreach ($blocks as $block) {
            token_get_all($block, \TOKEN_PARSE);
            preg_match_all('/^use ([\w\\\\]+);/m', $block, $found);
            self::assertNotEmpty($found[1]);
            foreach ($found[1] as $name) {
                self::assertTrue(class_exists($name) || interface_exists($name), $name);
            }
        }
    }

    public function testItsTableHasEverySetting(): void
    {
        $text = (string) file_get_contents(self::PAGE);
        $head = "| key | default | |\n|---|---|---|\n";
        [$before, $table] = explode($head, $text, 2);
        $expected = implode('', iterator_to_array(self::rows((new Configuration())->getConfigTreeBuilder()->buildTree(), ''), false));
        if ('1' === getenv('UPDATE_DOCS')) {
            file_put_contents(self::PAGE, $before . $head . $expected);
            $table = $expected;
        }
        self::assertSame($expected, $table, 'UPDATE_DOCS=1 phpunit --filter DocsTest writes it');
    }

    /**
     * @return iterable<string>
     */
    private static function rows(NodeInterface $node, string $path): iterable
    {
        if ($node instanceof ArrayNode && !$node instanceof PrototypedArrayNode) {
            foreach ($node->getChildren() as $name => $child) {
                yield from self::rows($child, '' === $path ? $name : $path . '.' . $name);
            }

            return;
        }
        $default = $node->hasDefaultValue() ? $node->getDefaultValue() : null;
        $shown = null === $default || [] === $default ? '' : '`' . (\is_string($default) ? $default : json_encode($default, \JSON_PRESERVE_ZERO_FRACTION)) . '`';
        yield sprintf("| `%s` | %s | %s |\n", $path, $shown, strtr((string) $node->getInfo(), ['|' => '\\|', '*' => '\\*', '<' => '&lt;']));
    }

    /**
     * @return list<string>
     */
    private function blocks(string $language): array
    {
        preg_match_all('/^```' . $language . '\n(.*?)^```$/ms', (string) file_get_contents(self::PAGE), $found);

        return $found[1];
    }
}
