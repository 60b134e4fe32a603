<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Command;

use Snoke\WsBundle\Consumer\SourceFactory;
use Snoke\WsBundle\Consumer\Worker;
use Snoke\WsBundle\Consumer\WorkerOptions;
use Snoke\WsBundle\Exception\ExceptionInterface;
use Snoke\WsBundle\Setting\Setting;
use Symfony\Component\Console\Attribute\AsCommand;
use Symfony\Component\Console\Command\Command;
use Symfony\Component\Console\Exception\InvalidOptionException;
use Symfony\Component\Console\Input\InputInterface;
use Symfony\Component\Console\Input\InputOption;
use Symfony\Component\Console\Output\OutputInterface;
use Symfony\Component\Console\Style\SymfonyStyle;

/**
 * Reads the gateway's events from a broker and has them handled.
 */
#[AsCommand(name: 'ws:consume', description: 'Reads the gateway\'s events from Redis or RabbitMQ and dispatches them')]
final class ConsumeCommand extends Command
{
    public function __construct(
        private readonly SourceFactory $sources,
        private readonly Worker $worker,
        private readonly ?string $logLevel = 'debug',
    ) {
        parent::__construct();
    }

    protected function configure(): void
    {
        $this
            ->addOption('transport', 't', InputOption::VALUE_REQUIRED, 'Where to read from: "redis_stream" or "rabbitmq" (default: events.type)')
            ->addOption('stream', null, InputOption::VALUE_REQUIRED | InputOption::VALUE_IS_ARRAY, 'Read this stream or queue instead of the configured ones; a "*" in a stream\'s name stands for anything')
            ->addOption('shards', null, InputOption::VALUE_REQUIRED | InputOption::VALUE_IS_ARRAY, 'Read these shards of the messages instead of everything, such as 0-3 or 0-3,8; with --stream what that names as well')
            ->addOption('shard', null, InputOption::VALUE_REQUIRED | InputOption::VALUE_IS_ARRAY, 'The same for one shard')
            ->addOption('name', null, InputOption::VALUE_REQUIRED, 'Name of this worker within the consumer group of Redis (default: host name and process id)')
            ->addOption('limit', 'l', InputOption::VALUE_REQUIRED, 'End after this many entries')
            ->addOption('time-limit', null, InputOption::VALUE_REQUIRED, 'End after this many seconds')
            ->addOption('memory-limit', 'm', InputOption::VALUE_REQUIRED, 'End when this much memory is used, such as 128M')
            ->setHelp(<<<'HELP'
                <info>%command.full_name%</info> reads what clients do from Redis streams or RabbitMQ queues and dispatches it as events,
                the same that webhooks do. A supervisor should start it again whenever it ends:

                    <info>%command.full_name% --time-limit=3600 --memory-limit=128M</info>

                <info>-v</info> prints a line for each event. SIGTERM and Ctrl-C end it once the event in hand is handled, with exit code 0.

                An entry is acknowledged after it was handled. If that fails it is tried again, up to max_deliveries times,
                and meanwhile the rest of its stream waits; then it goes to the dead letters. What is no event goes there at once.

                One worker handles a stream in order. To share the work of many rooms or documents, let the gateway split them
                (<info>ORDERING_PARTITION_MODE=shards</info>, and "partitions" on both sides) and give each shard to one worker:

                    <info>%command.full_name% --shards=0-7</info>
                    <info>%command.full_name% --shards=8-15 --stream=ws.events</info>
                HELP)
        ;
    }

    protected function execute(InputInterface $input, OutputInterface $output): int
    {
        $style = new SymfonyStyle($input, $output);
        try {
            $options = [
                'limit' => self::number($input, 'limit'),
                'timeLimitSeconds' => self::number($input, 'time-limit'),
                'memoryLimitBytes' => self::bytes(Options::text($input, 'memory-limit')),
                'logLevel' => Setting::choice('events.consumer.log_level', $this->logLevel, Setting::LOG_LEVELS),
            ];
            $type = Options::text($input, 'transport') ?? $this->sources->configuredType();
            if (!\in_array($type, SourceFactory::TYPES, true)) {
                $style->error(sprintf(
                    'There is nothing to consume: "snoke_ws.events.type" is "%s". Set it to "%s" (WS_EVENTS_TYPE), or name one by --transport.',
                    $type,
                    implode('" or "', SourceFactory::TYPES),
                ));

                return Command::FAILURE;
            }
            $options['maxDeliveries'] = $this->sources->maxDeliveries($type);
            $options['keepAliveSeconds'] = $this->sources->keepAliveSeconds($type);
            $shards = [...Options::texts($input, 'shards'), ...Options::texts($input, 'shard')];
            $source = $this->sources->create($type, Options::texts($input, 'stream'), Options::text($input, 'name'), $shards);
        } catch (ExceptionInterface $exception) {
            $style->error($exception->getMessage());

            return Command::FAILURE;
        }
        $style->writeln(sprintf('Reading %s.', $source->describe()));
        $style->writeln('Quit with CONTROL-C.' . ($output->isVerbose() ? '' : ' Run it with -v to see each event.'));
        if (!\function_exists('pcntl_signal')) {
            $style->writeln('Without ext-pcntl it ends in the middle of an event, which then comes again.');
        }
        $count = $this->worker->run(
            $source,
            new WorkerOptions(...$options),
            static function (string $line, bool $isTrouble) use ($output): void {
                $verbosity = $isTrouble ? OutputInterface::VERBOSITY_NORMAL : OutputInterface::VERBOSITY_VERBOSE;
                $output->writeln(sprintf('%s  %s', date('H:i:s'), $line), OutputInterface::OUTPUT_RAW | $verbosity);
            },
        );
        $style->writeln(sprintf('Stopped after %d %s.', $count, 1 === $count ? 'entry' : 'entries'));

        return Command::SUCCESS;
    }

    private static function number(InputInterface $input, string $name): ?int
    {
        $value = Options::text($input, $name);
        if (null === $value) {
            return null;
        }
        if (1 !== preg_match('/^[1-9]\d{0,9}$/D', $value)) {
            throw new InvalidOptionException(sprintf('--%s must be a whole number above 0, not "%s".', $name, $value));
        }

        return (int) $value;
    }

    private static function bytes(?string $value): ?int
    {
        if (null === $value) {
            return null;
        }
        if (1 !== preg_match('/^([1-9]\d{0,12})([kmg]?)b?$/iD', $value, $parts)) {
            throw new InvalidOptionException(sprintf('--memory-limit must be a size such as 128M, not "%s".', $value));
        }

        return (int) $parts[1] << ['' => 0, 'k' => 10, 'm' => 20, 'g' => 30][strtolower($parts[2])];
    }
}
