<?php

/*
 * A worker with the library that is named, whichever the bundle would take:
 *
 *     php worker.php ext-redis|Predis|php-amqplib|ext-amqp DSN NAMES DIRECTORY
 *
 * NAMES is what streams or queues begin with. Handled events are lines of DIRECTORY/events, see EventRecorder.
 */

declare(strict_types=1);

use Snoke\WsBundle\Amqp\AmqpDsn;
use Snoke\WsBundle\Consumer\Amqp\AmqpBinding;
use Snoke\WsBundle\Consumer\Amqp\AmqpSettings;
use Snoke\WsBundle\Consumer\Amqp\AmqpSource;
use Snoke\WsBundle\Consumer\Amqp\ExtAmqpConsumer;
use Snoke\WsBundle\Consumer\Amqp\PhpAmqpLibConsumer;
use Snoke\WsBundle\Consumer\ConsumerName;
use Snoke\WsBundle\Consumer\Redis\RedisStreamSettings;
use Snoke\WsBundle\Consumer\Redis\RedisStreamSource;
use Snoke\WsBundle\Consumer\Worker;
use Snoke\WsBundle\Consumer\WorkerOptions;
use Snoke\WsBundle\Event\EventFactory;
use Snoke\WsBundle\Handler\EventReceiver;
use Snoke\WsBundle\Redis\PhpRedisClient;
use Snoke\WsBundle\Redis\PredisClient;
use Snoke\WsBundle\Redis\RedisDsn;
use Snoke\WsBundle\Test\InMemoryPublisher;
use Snoke\WsBundle\Tests\Integration\App\EventRecorder;
use Symfony\Component\EventDispatcher\EventDispatcher;

require \dirname(__DIR__, 3) . '/vendor/autoload.php';

[, $library, $dsn, $names, $directory] = $argv;
if (in_array($library, ['ext-redis', 'Predis'], true)) {
    $class = 'Predis' === $library ? PredisClient::class : PhpRedisClient::class;
    $parsed = RedisDsn::parse($dsn, 'dsn');
    $source = new RedisStreamSource(
        new $class(static fn (): object => $class::connect($parsed, 5.0, 8.0), $parsed->address(), 8.0),
        new RedisStreamSettings([$names . '.inbox'], 'symfony', ConsumerName::own()),
    );
} else {
    $parsed = AmqpDsn::parse($dsn, 'dsn');
    $source = new AmqpSource(
        'ext-amqp' === $library ? new ExtAmqpConsumer($parsed) : new PhpAmqpLibConsumer($parsed),
        new AmqpSettings(
            [new AmqpBinding($names . '.inbox', $names . '.inbox', $names . '.inbox')],
            deadLetterExchange: $names . '.dlq',
            deadLetterQueue: $names . '.dlq',
        ),
    );
}
$dispatcher = new EventDispatcher();
$dispatcher->addSubscriber(new EventRecorder($directory . '/events', new InMemoryPublisher()));
echo "started\n";
$count = (new Worker(new EventFactory(), new EventReceiver($dispatcher)))->run(
    $source,
    new WorkerOptions(),
    static fn (string $line): int => print $line . "\n",
);
echo "stopped after $count\n";
