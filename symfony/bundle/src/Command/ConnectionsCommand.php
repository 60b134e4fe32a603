<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Command;

use Snoke\WsBundle\Client\GatewayClient;
use Snoke\WsBundle\Exception\ExceptionInterface;
use Snoke\WsBundle\Presence\Connection;
use Snoke\WsBundle\Presence\PresenceProviderInterface;
use Symfony\Component\Console\Attribute\AsCommand;
use Symfony\Component\Console\Command\Command;
use Symfony\Component\Console\Formatter\OutputFormatter;
use Symfony\Component\Console\Input\InputInterface;
use Symfony\Component\Console\Input\InputOption;
use Symfony\Component\Console\Output\OutputInterface;
use Symfony\Component\Console\Style\SymfonyStyle;

/**
 * Lists who is connected.
 */
#[AsCommand(name: 'ws:connections', description: 'Lists who is connected')]
final class ConnectionsCommand extends Command
{
    /**
     * @param \Closure(): PresenceProviderInterface $presence
     */
    public function __construct(private readonly \Closure $presence, private readonly GatewayClient $gateway)
    {
        parent::__construct();
    }

    protected function configure(): void
    {
        $this
            ->addOption('user', 'u', InputOption::VALUE_REQUIRED, 'Of this user only')
            ->addOption('subject', 's', InputOption::VALUE_REQUIRED, 'Of those that listen to this subject only')
            ->addOption('limit', 'l', InputOption::VALUE_REQUIRED, 'How many at most', '100')
            ->addOption('format', null, InputOption::VALUE_REQUIRED, 'Output: "text" or "json"', 'text')
            ->setHelp(<<<'HELP'
                <info>%command.full_name%</info> asks the gateway at transport.http.base_url for all connections. It knows its own or, with presence
                in Redis, those of all gateways.

                <info>%command.full_name% --user=42</info> asks where the application itself does (presence.type), and shows what
                PresenceProviderInterface would say.
                HELP)
        ;
    }

    protected function execute(InputInterface $input, OutputInterface $output): int
    {
        $isJson = Options::isJson($input);
        $limit = Options::count($input, 'limit', 1000);
        $style = new SymfonyStyle($input, $output);
        [$user, $subject] = [Options::text($input, 'user'), Options::text($input, 'subject')];
        if (null !== $user && null !== $subject) {
            $style->getErrorStyle()->error('Give --user or --subject, not both.');

            return Command::INVALID;
        }
        try {
            if (null !== $user) {
                $found = ($this->presence)()->connectionsOfUser($user);
            } elseif (null !== $subject) {
                $found = ($this->presence)()->connectionsOfSubject($subject);
            } elseif (!$this->gateway->isConfigured()) {
                $style->getErrorStyle()->error('Only a gateway can list all: set "snoke_ws.transport.http.base_url" and its api_key, or give --user or --subject.');

                return Command::FAILURE;
            } else {
                $found = $this->gateway->connections($limit);
            }
        } catch (ExceptionInterface $exception) {
            $style->getErrorStyle()->error($exception->getMessage());

            return Command::FAILURE;
        }
        $shown = \array_slice($found, 0, $limit);
        if ($isJson) {
            $output->writeln(json_encode(['connections' => array_map(self::row(...), $shown)], \JSON_THROW_ON_ERROR | \JSON_PRETTY_PRINT | \JSON_UNESCAPED_SLASHES | \JSON_UNESCAPED_UNICODE), OutputInterface::OUTPUT_RAW);

            return Command::SUCCESS;
        }
        if ([] === $shown) {
            $style->writeln('Nobody.');

            return Command::SUCCESS;
        }
        $style->table(['user', 'connection', 'since', 'last seen', 'subjects'], array_map(static fn (Connection $connection): array => [
            OutputFormatter::escape($connection->userId),
            $connection->connectionId,
            date('Y-m-d H:i:s', $connection->connectedAt),
            self::ago(time() - $connection->lastSeenAt),
            OutputFormatter::escape(self::subjects($connection->subjects)),
        ], $shown));
        $style->writeln(\count($shown) < $limit ? sprintf('%d in all.', \count($shown)) : sprintf('The first %d; --limit shows more.', $limit));

        return Command::SUCCESS;
    }

    /**
     * @return array<string, mixed>
     */
    private static function row(Connection $connection): array
    {
        return [
            'connection_id' => $connection->connectionId,
            'user_id' => $connection->userId,
            'subjects' => $connection->subjects,
            'connected_at' => $connection->connectedAt,
            'last_seen_at' => $connection->lastSeenAt,
        ];
    }

    /**
     * @param list<string> $subjects
     */
    private static function subjects(array $subjects): string
    {
        $more = \count($subjects) - 5;

        return implode(', ', \array_slice($subjects, 0, 5)) . ($more > 0 ? sprintf(' and %d more', $more) : '');
    }

    private static function ago(int $seconds): string
    {
        return match (true) {
            $seconds < 2 => 'now',
            $seconds < 120 => sprintf('%d s ago', $seconds),
            $seconds < 7200 => sprintf('%d min ago', intdiv($seconds, 60)),
            default => sprintf('%d h ago', intdiv($seconds, 3600)),
        };
    }
}
