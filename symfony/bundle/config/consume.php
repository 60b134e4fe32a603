<?php

declare(strict_types=1);

namespace Symfony\Component\DependencyInjection\Loader\Configurator;

use Snoke\WsBundle\Command\ConsumeCommand;
use Snoke\WsBundle\Consumer\SourceFactory;
use Snoke\WsBundle\Consumer\Worker;
use Snoke\WsBundle\Event\EventFactoryInterface;
use Symfony\Component\Console\Command\Command;

return static function (ContainerConfigurator $container): void {
    $section = /** @param list<string> $keys */ static function (string $name, array $keys): array {
        $parameters = [];
        foreach ($keys as $key) {
            $parameters[$key] = param('snoke_ws.events.' . $name . '.' . $key);
        }

        return $parameters;
    };
    $container->services()
        ->set('snoke_ws.source_factory', SourceFactory::class)
            ->args([
                param('snoke_ws.mode'),
                param('snoke_ws.events.type'),
                $section('redis_stream', [
                    'dsn', 'stream', 'inbox_stream', 'partitions', 'group', 'consumer', 'batch', 'claim_idle_seconds',
                    'max_deliveries', 'dead_letter_stream', 'delete_after_ack',
                ]),
                $section('rabbitmq', [
                    'dsn', 'exchange', 'routing_key', 'queue', 'inbox_exchange', 'inbox_exchange_type',
                    'inbox_routing_key', 'inbox_queue', 'partitions', 'inbox_single_active_consumer', 'declare', 'prefetch', 'max_deliveries',
                    'dead_letter_exchange', 'dead_letter_queue',
                ]),
                service('cache.app')->nullOnInvalid(),
            ])

        ->set('snoke_ws.worker', Worker::class)
            ->args([
                service(EventFactoryInterface::class),
                service('snoke_ws.event_receiver.consumer'),
                service('logger'),
                service('services_resetter')->nullOnInvalid(),
                service('snoke_ws.tracer_factory'),
            ])
            ->tag('monolog.logger', ['channel' => 'snoke_ws'])
    ;
    if (!class_exists(Command::class)) {
        return;
    }
    $container->services()
        ->set('snoke_ws.command.consume', ConsumeCommand::class)
            ->args([
                service('snoke_ws.source_factory'),
                service('snoke_ws.worker'),
                param('snoke_ws.events.consumer.log_level'),
            ])
            ->tag('console.command')
    ;
};
