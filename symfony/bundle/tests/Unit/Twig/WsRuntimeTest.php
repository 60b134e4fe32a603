<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Tests\Unit\Twig;

use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Exception\InvalidSettingException;
use Snoke\WsBundle\Exception\TokenException;
use Snoke\WsBundle\Token\Token;
use Snoke\WsBundle\Token\TokenFactoryInterface;
use Snoke\WsBundle\Twig\WsRuntime;
use Symfony\Component\Security\Core\Authentication\Token\Storage\TokenStorage;
use Symfony\Component\Security\Core\Authentication\Token\UsernamePasswordToken;
use Symfony\Component\Security\Core\User\InMemoryUser;
use Symfony\Component\Security\Core\User\UserInterface;

final class WsRuntimeTest extends TestCase
{
    public function testOnlySomebodyGetsAToken(): void
    {
        $storage = new TokenStorage();
        $runtime = new WsRuntime(self::factory(), null, $storage);
        self::assertNull($runtime->token());
        self::assertNull((new WsRuntime(self::factory(), null))->token());
        self::assertSame('7,[],[],', $runtime->token(['user' => 7]));

        $storage->setToken(new UsernamePasswordToken(new InMemoryUser('alice', null), 'main'));
        self::assertSame('alice,["room:7"],{"a":1},60', $runtime->token(['subjects' => ['room:7'], 'claims' => ['a' => 1], 'ttl' => 60]));
    }

    public function testAMisspeltOptionIsSaid(): void
    {
        $this->expectException(TokenException::class);
        $this->expectExceptionMessage('ws_token() has no option "subject"; it has "user", "subjects", "claims", "ttl"');
        (new WsRuntime(self::factory(), null))->token(['subject' => 'a']);
    }

    public function testTheUrl(): void
    {
        self::assertSame('wss://app.example/ws', (new WsRuntime(self::factory(), 'wss://app.example/ws'))->url());
        $this->expectException(InvalidSettingException::class);
        $this->expectExceptionMessage('"snoke_ws.public_url" is empty');
        (new WsRuntime(self::factory(), ''))->url();
    }

    private static function factory(): TokenFactoryInterface
    {
        return new class implements TokenFactoryInterface {
            public function forUser(UserInterface|string|int $user, array $subjects = [], array $claims = [], ?int $ttlSeconds = null): Token
            {
                $user = $user instanceof UserInterface ? $user->getUserIdentifier() : $user;

                return new Token(sprintf('%s,%s,%s,%s', $user, json_encode($subjects), json_encode($claims), $ttlSeconds), new \DateTimeImmutable());
            }
        };
    }
}
