<?php

// What this bundle and the demo inherit, with the types of Symfony 8 (7.4 has the same or fewer) and of Twig 4, whatever
// is installed. Never loaded together with the real ones: see InheritanceTest.

declare(strict_types=1);

namespace Symfony\Contracts\Service {
    interface ResetInterface
    {
        public function reset(): void;
    }
}

namespace Symfony\Component\EventDispatcher {
    interface EventSubscriberInterface
    {
        public static function getSubscribedEvents(): array;
    }
}

namespace Symfony\Component\Config\Definition {
    interface ConfigurationInterface
    {
        public function getConfigTreeBuilder(): Builder\TreeBuilder;
    }
}

namespace Symfony\Component\DependencyInjection\Compiler {
    use Symfony\Component\DependencyInjection\ContainerBuilder;

    interface CompilerPassInterface
    {
        public function process(ContainerBuilder $container): void;
    }
}

namespace Symfony\Component\DependencyInjection\Extension {
    use Symfony\Component\Config\Definition\ConfigurationInterface;
    use Symfony\Component\DependencyInjection\ContainerBuilder;

    interface ExtensionInterface
    {
        public function load(array $configs, ContainerBuilder $container): void;

        public function getAlias(): string;
    }

    interface ConfigurationExtensionInterface
    {
        public function getConfiguration(array $config, ContainerBuilder $container): ?ConfigurationInterface;
    }

    abstract class Extension implements ExtensionInterface, ConfigurationExtensionInterface
    {
        private array $processedConfigs = [];

        public function getAlias(): string
        {
        }

        public function getConfiguration(array $config, ContainerBuilder $container): ?ConfigurationInterface
        {
        }

        final protected function processConfiguration(ConfigurationInterface $configuration, array $configs): array
        {
        }

        final public function getProcessedConfigs(): array
        {
        }

        protected function isConfigEnabled(ContainerBuilder $container, array $config): bool
        {
        }
    }
}

namespace Symfony\Component\HttpKernel\Bundle {
    use Symfony\Component\Console\Application;
    use Symfony\Component\DependencyInjection\ContainerBuilder;
    use Symfony\Component\DependencyInjection\ContainerInterface;
    use Symfony\Component\DependencyInjection\Extension\ExtensionInterface;

    abstract class Bundle
    {
        protected string $name;
        protected ExtensionInterface|false|null $extension = null;
        protected string $path;
        protected ?ContainerInterface $container;

        public function boot(): void
        {
        }

        public function shutdown(): void
        {
        }

        public function build(ContainerBuilder $container): void
        {
        }

        public function getContainerExtension(): ?ExtensionInterface
        {
        }

        public function getNamespace(): string
        {
        }

        public function getPath(): string
        {
        }

        final public function getName(): string
        {
        }

        public function registerCommands(Application $application): void
        {
        }

        protected function getContainerExtensionClass(): string
        {
        }

        protected function createContainerExtension(): ?ExtensionInterface
        {
        }

        public function setContainer(?ContainerInterface $container): void
        {
        }
    }
}

namespace Symfony\Component\HttpKernel {
    abstract class Kernel
    {
        protected string $environment;
        protected bool $debug;

        public function getProjectDir(): string
        {
        }

        public function getEnvironment(): string
        {
        }

        public function getCacheDir(): string
        {
        }

        public function getBuildDir(): string
        {
        }

        public function getShareDir(): ?string
        {
        }

        public function getLogDir(): ?string
        {
        }
    }
}

namespace Symfony\Bundle\FrameworkBundle\Kernel {
    use Symfony\Component\Config\Loader\LoaderInterface;
    use Symfony\Component\DependencyInjection\ContainerBuilder;
    use Symfony\Component\DependencyInjection\Loader\Configurator\ContainerConfigurator;
    use Symfony\Component\Routing\Loader\Configurator\RoutingConfigurator;

    trait MicroKernelTrait
    {
        private function configureContainer(ContainerConfigurator $container, LoaderInterface $loader, ContainerBuilder $builder): void
        {
        }

        private function configureRoutes(RoutingConfigurator $routes): void
        {
        }

        private function getConfigDir(): string
        {
        }

        private function getBundlesPath(): string
        {
        }

        public function getCacheDir(): string
        {
        }

        public function getLogDir(): string
        {
        }

        public function registerBundles(): iterable
        {
        }

        public function registerContainerConfiguration(LoaderInterface $loader): void
        {
        }
    }
}

namespace Symfony\Component\HttpKernel\DataCollector {
    use Symfony\Component\HttpFoundation\Request;
    use Symfony\Component\HttpFoundation\Response;
    use Symfony\Component\VarDumper\Cloner\Data;
    use Symfony\Contracts\Service\ResetInterface;

    interface DataCollectorInterface extends ResetInterface
    {
        public function collect(Request $request, Response $response, ?\Throwable $exception = null): void;

        public function getName(): string;
    }

    abstract class DataCollector implements DataCollectorInterface
    {
        protected array|Data $data = [];

        protected function cloneVar(mixed $var): Data
        {
        }

        protected function getCasters(): array
        {
        }

        public function __serialize(): array
        {
        }

        public function __unserialize(array $data): void
        {
        }

        public function reset(): void
        {
        }
    }
}

namespace Symfony\Component\Console\Command {
    use Symfony\Component\Console\Completion\CompletionInput;
    use Symfony\Component\Console\Completion\CompletionSuggestions;
    use Symfony\Component\Console\Input\InputInterface;
    use Symfony\Component\Console\Output\OutputInterface;

    class Command
    {
        public function __construct(?string $name = null, ?callable $code = null)
        {
        }

        public function getSubscribedSignals(): array
        {
        }

        public function handleSignal(int $signal, int|false $previousExitCode = 0): int|false
        {
        }

        public function isEnabled(): bool
        {
        }

        protected function configure(): void
        {
        }

        protected function execute(InputInterface $input, OutputInterface $output): int
        {
        }

        protected function interact(InputInterface $input, OutputInterface $output): void
        {
        }

        protected function initialize(InputInterface $input, OutputInterface $output): void
        {
        }

        public function run(InputInterface $input, OutputInterface $output): int
        {
        }

        public function complete(CompletionInput $input, CompletionSuggestions $suggestions): void
        {
        }
    }
}

namespace Symfony\Component\Messenger\Stamp {
    interface StampInterface
    {
    }

    interface NonSendableStampInterface extends StampInterface
    {
    }
}

namespace Symfony\Component\Messenger\Exception {
    interface ExceptionInterface extends \Throwable
    {
    }

    interface UnrecoverableExceptionInterface extends \Throwable
    {
    }
}

namespace Symfony\Component\Messenger\Transport\Serialization {
    use Symfony\Component\Messenger\Envelope;

    interface SerializerInterface
    {
        public function decode(array $encodedEnvelope): Envelope;

        public function encode(Envelope $envelope): array;
    }
}

namespace Symfony\Component\Messenger\Transport {
    use Symfony\Component\Messenger\Envelope;
    use Symfony\Component\Messenger\Transport\Serialization\SerializerInterface;

    interface TransportInterface
    {
        // The parameter is announced in 8.1.
        public function get(int $fetchSize = 1): iterable;

        public function ack(Envelope $envelope): void;

        public function reject(Envelope $envelope): void;

        public function send(Envelope $envelope): Envelope;
    }

    interface TransportFactoryInterface
    {
        public function createTransport(#[\SensitiveParameter] string $dsn, array $options, SerializerInterface $serializer): TransportInterface;

        public function supports(#[\SensitiveParameter] string $dsn, array $options): bool;
    }
}

namespace Symfony\Component\RemoteEvent\Consumer {
    use Symfony\Component\RemoteEvent\RemoteEvent;

    interface ConsumerInterface
    {
        public function consume(RemoteEvent $event): void;
    }
}

namespace Symfony\Component\Webhook\Client {
    use Symfony\Component\HttpFoundation\Request;
    use Symfony\Component\HttpFoundation\RequestMatcherInterface;
    use Symfony\Component\HttpFoundation\Response;
    use Symfony\Component\RemoteEvent\RemoteEvent;

    abstract class AbstractRequestParser
    {
        public function parse(Request $request, #[\SensitiveParameter] string $secret): RemoteEvent|array|null
        {
        }

        public function createSuccessfulResponse(?Request $request = null): Response
        {
        }

        public function createRejectedResponse(string $reason, ?Request $request = null): Response
        {
        }

        abstract protected function getRequestMatcher(): RequestMatcherInterface;

        abstract protected function doParse(Request $request, #[\SensitiveParameter] string $secret): RemoteEvent|array|null;

        protected function validate(Request $request): void
        {
        }
    }
}

namespace Twig\Extension {
    interface RuntimeExtensionInterface
    {
    }

    abstract class AbstractExtension
    {
        public function getTokenParsers(): array
        {
        }

        public function getNodeVisitors(): array
        {
        }

        public function getFilters(): array
        {
        }

        public function getTests(): array
        {
        }

        public function getFunctions(): array
        {
        }

        public function getOperators(): array
        {
        }
    }
}
