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

    public function testAnEchoComesBack(): void
    {
        $client = self::$stack->connect('43');
        $client->send('{"type":"echo","text":"Grüße","empty":{}}');
        self::assertSame('{"type":"event","payload":{"type":"echo","message":{"type":"echo","text":"Grüße","empty":{}}}}', $client->receive());
        $client->close();
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

    public function testPingGoesTheWholeWay(): void
    {
        $done = self::$stack->console('ws:ping', ['--format=json', '--count=3', '--timeout=15']);
        $answer = json_decode($done['output'], true);
        self::assertSame(0, $done['exit'], $done['output'] . $done['errors']);
        self::assertTrue($answer['ok']);
        self::assertSame(['token', 'connect', 'answer', 'push', 'event'], array_column($answer['steps'], 'name'));
        self::assertSame(['ok'], array_values(array_unique(array_column($answer['steps'], 'state'))), $done['output']);
        foreach ($answer['steps'] as $step) {
            self::assertGreaterThan(0, $step['ms']);
        }
        $text = self::$stack->console('ws:ping')['output'];
        self::assertMatchesRegularExpression('/^ ok    event +[\d.]+ ms  from the client by \w+ to the application/m', $text);
    }

    public function testPingNamesTheHopThatFails(): void
    {
        $other = ['WS_TOKEN_KEY_FILE' => \dirname(__DIR__, 2) . '/tests/keys/rsa_other.pem'];
        $failures = [
            ['token', 'token.key_file', ['WS_TOKEN_KEY_FILE' => '/nowhere.pem']],
            ['connect', 'Nothing answers', ['WS_PUBLIC_URL' => 'ws://127.0.0.1:1/ws']],
            ['connect', '404', ['WS_PUBLIC_URL' => sprintf('ws://127.0.0.1:%d/other', self::$stack->gatewayPort)]],
            ['answer', '4401', $other],
        ];
        if ('terminator' === static::kind()) {
            $failures[] = ['push', '401', ['WS_GATEWAY_API_KEY' => 'another']];
        }
        foreach ($failures as [$name, $message, $env]) {
            $done = self::$stack->console('ws:ping', ['--format=json'], $env);
            $step = array_slice(json_decode($done['output'], true)['steps'], -1)[0];
            self::assertSame([1, $name, 'failed'], [$done['exit'], $step['name'], $step['state']], $done['output']);
            self::assertStringContainsString($message, $step['message']);
        }
        self::assertSame(1, self::$stack->console('ws:ping', ['--timeout=none'])['exit']);
    }

    public function testPublish(): void
    {
        $client = self::$stack->connect('31', 'room:31');
        $done = self::$stack->console('ws:publish', ['room:31', '--user=31', '--payload={"a":{},"n":9007199254740993}', '--format=json']);
        self::assertSame(0, $done['exit'], $done['output'] . $done['errors']);
        self::assertTrue(json_decode($done['output'], true)['ok']);
        self::assertStringContainsString('"a":{}', $client->receive());
        self::$stack->console('ws:publish', ['room:31']);
        self::assertSame('{"type":"event","payload":{"type":"hello"}}', $client->receive(), 'once, though two subjects matched');
        $client->close();

        self::assertSame(2, self::$stack->console('ws:publish')['exit']);
        $done = self::$stack->console('ws:publish', ['room:31', '--payload=hello']);
        self::assertSame(2, $done['exit']);
        self::assertStringContainsString('Text needs its quotes', preg_replace('/\s+/', ' ', $done['errors']));
        self::assertSame(1, self::$stack->console('ws:publish', [' '])['exit']);
    }

    public function testConnections(): void
    {
        $client = self::$stack->connect('32', 'room:32', 'room:<b>');
        self::$stack->eventually('/api/online?user=32', static fn (array $answer): bool => true === $answer['json']['online']);
        foreach ([[], ['--user=32'], ['--subject=room:32']] as $arguments) {
            $done = self::$stack->console('ws:connections', [...$arguments, '--format=json']);
            $found = json_decode($done['output'], true)['connections'] ?? [];
            self::assertContains('32', array_column($found, 'user_id'), $done['output'] . $done['errors']);
        }
        self::assertStringContainsString('room:<b>', self::$stack->console('ws:connections', ['--user=32'])['output']);
        $client->close();
        self::assertSame("Nobody.\n", self::$stack->console('ws:connections', ['--user=nobody'])['output']);
        self::assertSame(2, self::$stack->console('ws:connections', ['--user=1', '--subject=2'])['exit']);
        $done = self::$stack->console('ws:connections', [], ['WS_GATEWAY_API_KEY' => 'another']);
        self::assertSame(1, $done['exit']);
        self::assertStringContainsString('401', $done['errors']);
    }

    public function testCheckFindsThatAllFits(): void
    {
        $pipeline = ['terminator' => 'terminator', 'redis' => 'core', 'rabbitmq' => 'core-rabbitmq'][static::kind()];
        $arguments = ['--wsgw=' . \Snoke\WsBundle\Tests\Support\Gateway::binary(), '--pipeline=' . \dirname(__DIR__, 2) . "/pipelines/$pipeline.yaml"];
        $done = self::$stack->console('ws:check', [...$arguments, '--format=json']);
        $answer = json_decode($done['output'], true);
        self::assertSame(0, $done['exit'], $done['output'] . $done['errors']);
        $states = array_column($answer['steps'], 'state', 'name');
        foreach (['settings', 'gateway', 'api key', 'clock', 'client', 'user', 'presence', 'files'] as $name) {
            self::assertSame('ok', $states[$name] ?? null, $name . "\n" . $done['output']);
        }
        self::assertStringContainsString(' ok    api key', self::$stack->console('ws:check')['output']);
    }

    public function testCheckSaysWhatDoesNotFit(): void
    {
        $differences = [
            'api key' => ['WS_GATEWAY_API_KEY' => 'another'],
            'gateway' => ['WS_GATEWAY_BASE_URL' => 'http://127.0.0.1:1'],
            'client' => ['WS_TOKEN_KEY_FILE' => \dirname(__DIR__, 2) . '/tests/keys/rsa_other.pem'],
            'token' => ['WS_TOKEN_KEY_FILE' => '/nowhere.pem'],
            'settings' => ['WS_MODE' => 'banana'],
        ];
        if ('terminator' === static::kind()) {
            $differences['secret'] = ['SYMFONY_WEBHOOK_SECRET' => ''];
        }
        if ('redis' === static::kind()) {
            $differences['redis'] = ['WS_REDIS_DSN' => 'redis://127.0.0.1:1/0'];
            $differences['presence'] = ['WS_REDIS_PREFIX' => 'other:'];
        }
        if ('rabbitmq' === static::kind()) {
            $differences['rabbitmq'] = ['WS_RABBITMQ_DSN' => 'amqp://guest:guest@127.0.0.1:1/%2f'];
        }
        foreach ($differences as $name => $env) {
            $done = self::$stack->console('ws:check', ['--format=json'], $env);
            $answer = json_decode($done['output'], true);
            self::assertSame([1, false], [$done['exit'], $answer['ok'] ?? null], $name . $done['output'] . $done['errors']);
            self::assertSame('failed', array_column($answer['steps'], 'state', 'name')[$name] ?? null, $done['output']);
        }
    }

    public function testTheScriptThatFollowsAMessage(): void
    {
        $env = [
            'APP_URL' => 'http://127.0.0.1:' . self::$stack->webPort,
            'WS_URL' => sprintf('ws://127.0.0.1:%d/ws', self::$stack->gatewayPort),
            'JWT_PRIVATE_KEY_FILE' => \dirname(__DIR__, 2) . '/tests/keys/rsa.pem',
        ];
        $script = \dirname(__DIR__, 2) . '/scripts/demo_message_flow.sh';
        $done = self::$stack->run([$script, '51'], $env);
        self::assertSame(0, $done['exit'], $done['output'] . $done['errors']);
        self::assertStringEndsWith("Both ways work.\n", $done['output']);
        self::assertStringContainsString('"type":"message_received"', $done['output']);
        self::assertStringNotContainsString('hunter2', $done['output'] . $done['errors']);

        $done = self::$stack->run([$script, '51'], ['DEMO_API_KEY' => 'wrong', 'FLOW_SECONDS' => '3'] + $env);
        self::assertSame(1, $done['exit'], $done['output']);
        self::assertStringContainsString('the demo refuses the key', $done['errors']);
        $done = self::$stack->run([$script], ['JWT_PRIVATE_KEY_FILE' => \dirname(__DIR__, 2) . '/tests/keys/rsa_other.pem', 'FLOW_SECONDS' => '3'] + $env);
        self::assertSame(1, $done['exit'], $done['output']);
        self::assertSame([0, 2], [self::$stack->run([$script, '--help'])['exit'], self::$stack->run([$script, '--nonsense'])['exit']]);
    }

    public function testTheScriptThatPushes(): void
    {
        $script = \dirname(__DIR__, 2) . '/scripts/push_demo.sh';
        $how = ['terminator' => '--mode=terminator', 'redis' => '--mode=core', 'rabbitmq' => '--transport=rabbitmq'][static::kind()];
        $client = self::$stack->connect('52', 'room:52');
        $done = self::$stack->run([$script, $how, '52', '{"n":1.50}']);
        self::assertSame(0, $done['exit'], $done['output'] . $done['errors']);
        self::assertSame('{"type":"event","payload":{"n":1.50}}', $client->receive());
        // Without a word it goes by what the environment says.
        self::$stack->run([$script, '--subject', 'room:52']);
        self::assertStringContainsString('Hello from push_demo.sh', $client->receive());
        $client->close();
        self::assertStringNotContainsString('hunter2', $done['output'] . $done['errors']);

        self::assertSame(0, self::$stack->run([$script, '--help'])['exit']);
        foreach ([[], ['--mode', 'banana', '1'], ['--transport', 'banana', '1'], ['a"b'], ['1', '2', '3'], ['--nonsense', '1']] as $arguments) {
            self::assertSame(2, self::$stack->run([$script, ...$arguments])['exit'], implode(' ', $arguments));
        }
        $done = self::$stack->run([$script, $how, '1', '{oops']);
        self::assertNotSame(0, $done['exit'], $done['output']);
        $wrong = ['GATEWAY_API_KEY' => 'hunter2wrong', 'REDIS_DSN' => 'redis://:hunter2wrong@127.0.0.1:1/0', 'RABBITMQ_DSN' => 'amqp://guest:hunter2wrong@127.0.0.1:1/%2f'];
        $done = self::$stack->run([$script, $how, '1'], $wrong);
        self::assertSame(1, $done['exit']);
        self::assertStringNotContainsString('hunter2', $done['output'] . $done['errors']);
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
