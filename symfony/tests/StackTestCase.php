<?php

declare(strict_types=1);

namespace App\Tests;

use App\Tests\Support\Stack;
use PHPUnit\Framework\TestCase;
use Snoke\WsBundle\Tests\Support\WsClient;

/**
 * What holds whichever way the gateway and Symfony talk. The stack is started once for each way.
 */
abstract class StackTestCase extends TestCase
{
    protected static Stack $stack;

    /**
     * @return 'terminator'|'redis'|'rabbitmq'
     */
    abstract protected static function kind(): string;

    public static function setUpBeforeClass(): void
    {
        self::$stack = new Stack(static::kind());
    }

    public static function tearDownAfterClass(): void
    {
        self::$stack->remove();
    }

    public function testPingSaysHowTheySpeak(): void
    {
        $expected = [
            'terminator' => ['ok' => true, 'mode' => 'terminator', 'transport' => 'http', 'presence' => 'http', 'events' => 'webhook'],
            'redis' => ['ok' => true, 'mode' => 'core', 'transport' => 'redis_stream', 'presence' => 'redis', 'events' => 'redis_stream'],
            'rabbitmq' => ['ok' => true, 'mode' => 'core', 'transport' => 'rabbitmq', 'presence' => 'http', 'events' => 'rabbitmq'],
        ];
        self::assertSame($expected[static::kind()], self::$stack->api('GET', '/api/ping', null, [])['json']);
    }

    public function testAClientsMessageReachesAHandler(): void
    {
        $number = random_int(1, 1_000_000);
        $client = self::$stack->connect('42', 'room:1');
        $client->send(sprintf('{"type":"note","n":%d,"price":1.10}', $number));
        $answer = self::$stack->eventually('/api/ws/last-message', static fn (array $answer): bool => $number === ($answer['json']['event']['message']['n'] ?? null));
        $client->close();

        $event = $answer['json']['event'];
        self::assertSame(['message_received', '42', 2], [$event['type'], $event['user_id'], $event['seq']]);
        self::assertSame(sprintf('{"type":"note","n":%d,"price":1.10}', $number), $event['raw']);
        self::assertStringContainsString('"price":1.10', str_replace(' ', '', $answer['body']), 'numbers keep their form');
    }

    public function testAPushReachesTheClient(): void
    {
        $client = self::$stack->connect('4242');
        $answer = self::$stack->api('POST', '/api/push-demo/4242', '{"text":"Grüße","empty":{},"n":1.50}');
        self::assertSame(200, $answer['status'], $answer['body']);
        self::assertTrue($answer['json']['ok']);
        self::assertSame('{"type":"event","payload":{"text":"Grüße","empty":{},"n":1.5}}', $client->receive());
        if ('terminator' === static::kind()) {
            self::assertSame(1, $answer['json']['sent']);
        } else {
            self::assertNotEmpty($answer['json']['message_id']);
        }

        self::$stack->api('POST', '/api/push-demo/4242');
        self::assertSame('{"type":"event","payload":{"type":"demo","text":"Hello from Symfony"}}', $client->receive());
        $client->close();

        self::assertSame(400, self::$stack->api('POST', '/api/push-demo/4242', '{oops')['status']);
    }

    public function testOnlineKnowsWhoIs(): void
    {
        self::assertFalse(self::$stack->api('GET', '/api/online?user=77')['json']['online']);
        $client = self::$stack->connect('77', 'room:9');
        $answer = self::$stack->eventually('/api/online?user=77', static fn (array $answer): bool => true === ($answer['json']['online'] ?? null));
        self::assertSame(['77'], $answer['json']['users']);
        self::assertEqualsCanonicalizing(['user:77', 'room:9'], $answer['json']['connections'][0]['subjects']);
        self::assertSame(['77'], self::$stack->api('GET', '/api/online?subject=room:9')['json']['users']);
        $client->close();
        self::$stack->eventually('/api/online?user=77', static fn (array $answer): bool => false === $answer['json']['online']);
        self::assertSame(400, self::$stack->api('GET', '/api/online?user[]=1')['status']);
    }

    public function testTheApiIsClosedWithoutTheKey(): void
    {
        $calls = [['GET', '/api/online'], ['GET', '/api/ws/last-message'], ['POST', '/api/push-demo/1']];
        foreach ($calls as [$method, $path]) {
            foreach ([[], ['X-Demo-Key' => ''], ['X-Demo-Key' => 'wrong']] as $headers) {
                $answer = self::$stack->api($method, $path, null, $headers);
                self::assertSame(401, $answer['status'], $path);
                self::assertContains('Content-Type: application/problem+json', $answer['headers']);
            }
        }
    }

    public function testTheChatHandsOnWhatIsSealed(): void
    {
        $alice = self::$stack->connect('alice', 'chat');
        self::receive($alice, 'chat.joined', static fn (array $push): bool => 'alice' === $push['user']);
        $bob = self::$stack->connect('bob', 'chat');
        self::receive($alice, 'chat.joined', static fn (array $push): bool => 'bob' === $push['user']);

        $alice->send('{"type":"chat.hello","key":"KEY-A","from":"mallory","extra":1}');
        $roster = self::receive($alice, 'chat.roster');
        self::assertEqualsCanonicalizing(['alice', 'bob'], array_column($roster['connections'], 'user'));
        $hello = self::receive($bob, 'chat.hello');
        self::assertSame(['type', 'from', 'connection', 'key'], array_keys($hello));
        self::assertSame(['alice', 'KEY-A'], [$hello['from'], $hello['key']], 'the sender is who the token says');

        $bob->send('{"type":"chat.key","to":"alice","key":"KEY-B"}');
        self::assertSame('KEY-B', self::receive($alice, 'chat.key')['key']);
        $alice->send('{"type":"chat.sealed","to":"bob","number":"1"}');
        $alice->send('{"type":"chat.sealed","to":"bob","from_key":"a","to_key":"b","number":"1","iv":"aXY=","sealed":"c2VhbGVk"}');
        $sealed = self::receive($bob, 'chat.sealed');
        self::assertSame(['alice', 'c2VhbGVk'], [$sealed['from'], $sealed['sealed']], 'what is incomplete is not handed on');

        $bob->close();
        $left = self::receive($alice, 'chat.left');
        self::assertSame(['bob', $sealed['connection'] !== $left['connection']], [$left['user'], true]);
        $alice->close();
    }

    public function testNoSecretIsLogged(): void
    {
        $output = self::$stack->gatewayOutput() . self::$stack->webOutput() . self::$stack->consumerOutput();
        self::assertStringNotContainsString('hunter2', $output);
        self::assertStringNotContainsString('PHP Warning', $output);
        self::assertStringNotContainsString('Deprecated', $output);
    }

    /**
     * The payload of the next push of a type.
     *
     * @return array<string, mixed>
     */
    protected static function receive(WsClient $client, string $type, ?\Closure $isIt = null): array
    {
        while (true) {
            $payload = json_decode($client->receive(), true)['payload'] ?? [];
            if ($type === ($payload['type'] ?? null) && (null === $isIt || $isIt($payload))) {
                return $payload;
            }
        }
    }
}
