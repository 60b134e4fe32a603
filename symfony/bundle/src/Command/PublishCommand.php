<?php

declare(strict_types=1);

namespace Snoke\WsBundle\Command;

use Snoke\WsBundle\Exception\ExceptionInterface;
use Snoke\WsBundle\Publisher\WebsocketPublisherInterface;
use Symfony\Component\Console\Attribute\AsCommand;
use Symfony\Component\Console\Command\Command;
use Symfony\Component\Console\Input\InputArgument;
use Symfony\Component\Console\Input\InputInterface;
use Symfony\Component\Console\Input\InputOption;
use Symfony\Component\Console\Output\OutputInterface;
use Symfony\Component\Console\Style\SymfonyStyle;

/**
 * Pushes from the command line.
 */
#[AsCommand(name: 'ws:publish', description: 'Pushes a payload to the clients of subjects or of a user')]
final class PublishCommand extends Command
{
    /**
     * @param \Closure(): WebsocketPublisherInterface $publisher
     */
    public function __construct(private readonly \Closure $publisher, private readonly ?string $userPrefix)
    {
        parent::__construct();
    }

    protected function configure(): void
    {
        $this
            ->addArgument('subject', InputArgument::IS_ARRAY, 'Subjects such as "room:7"')
            ->addOption('user', 'u', InputOption::VALUE_REQUIRED | InputOption::VALUE_IS_ARRAY, 'A user\'s id, instead of or beside subjects')
            ->addOption('payload', 'p', InputOption::VALUE_REQUIRED, 'JSON; "-" reads it from standard input', '{"type":"hello"}')
            ->addOption('format', null, InputOption::VALUE_REQUIRED, 'Output: "text" or "json"', 'text')
            ->setHelp(<<<'HELP'
                <info>%command.full_name% room:7 room:8 --payload='{"type":"lunch"}'</info> pushes by the configured transport. Clients get
                {"type":"event","payload":{"type":"lunch"}}, each connection once.

                <info>echo '"hello"' | %command.full_name% --user=42 --payload=-</info> pushes to all connections of user 42.
                HELP)
        ;
    }

    protected function execute(InputInterface $input, OutputInterface $output): int
    {
        $isJson = Options::isJson($input);
        $errors = (new SymfonyStyle($input, $output))->getErrorStyle();
        $subjects = Options::arguments($input, 'subject');
        foreach (Options::texts($input, 'user') as $user) {
            $subjects[] = ($this->userPrefix ?? '') . $user;
        }
        if ([] === $subjects) {
            $errors->error('Say to whom: name subjects, or users by --user.');

            return Command::INVALID;
        }
        $text = Options::text($input, 'payload') ?? '';
        // As objects: an empty one would be sent as an empty list.
        $payload = json_decode('-' === $text ? (string) stream_get_contents(\STDIN) : $text, false, 512, \JSON_BIGINT_AS_STRING);
        if (\JSON_ERROR_NONE !== json_last_error()) {
            $errors->error(sprintf('The payload is no JSON (%s). Text needs its quotes: --payload=\'"hello"\'.', json_last_error_msg()));

            return Command::INVALID;
        }
        try {
            $result = ($this->publisher)()->send($subjects, $payload);
        } catch (ExceptionInterface $exception) {
            $errors->error($exception->getMessage());

            return Command::FAILURE;
        }
        if ($isJson) {
            $facts = ['ok' => true, 'transport' => $result->transport, 'sent' => $result->sent, 'message_id' => $result->messageId];
            $output->writeln(json_encode($facts, \JSON_THROW_ON_ERROR), OutputInterface::OUTPUT_RAW);

            return Command::SUCCESS;
        }
        $what = match (true) {
            'http' === $result->transport && 0 === $result->sent => 'The gateway took it, and nobody who is connected there listens to that.',
            'http' === $result->transport => sprintf('Queued to %d %s of the gateway.', $result->sent, 1 === $result->sent ? 'connection' : 'connections'),
            0 === $result->sent => 'RabbitMQ took it, and no gateway listens: nobody gets it.',
            default => sprintf('Handed to %s as %s; every gateway delivers it to its own clients.', $result->transport, $result->messageId),
        };
        $output->writeln($what, OutputInterface::OUTPUT_RAW);

        return Command::SUCCESS;
    }
}
