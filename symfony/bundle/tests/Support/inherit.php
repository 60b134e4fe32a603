<?php

// Loads every class below some directories, with parents as Symfony 8 has them: PHP itself then compares the signatures,
// and ends at one that does not fit. Prints the number of classes.
//
//     php inherit.php 'Snoke\WsBundle\' src 'App\' ../src

declare(strict_types=1);

error_reporting(-1);
set_error_handler(static function (int $level, string $message, string $file, int $line): never {
    fwrite(\STDERR, sprintf("%s in %s:%d\n", $message, $file, $line));
    exit(1);
});

$directories = [];
for ($at = 1; $at + 1 < $argc; $at += 2) {
    $directories[$argv[$at]] = $argv[$at + 1];
}
spl_autoload_register(static function (string $class) use ($directories): void {
    foreach ($directories as $prefix => $directory) {
        $file = $directory . '/' . str_replace('\\', '/', substr($class, \strlen($prefix))) . '.php';
        if (str_starts_with($class, $prefix) && is_file($file)) {
            require $file;

            return;
        }
    }
});
require \dirname(__DIR__) . '/Stub/symfony-next.php';

$count = 0;
foreach ($directories as $prefix => $directory) {
    $files = new RecursiveIteratorIterator(new RecursiveDirectoryIterator($directory, FilesystemIterator::SKIP_DOTS));
    foreach ($files as $file) {
        if ('php' !== $file->getExtension()) {
            continue;
        }
        $class = $prefix . str_replace('/', '\\', substr($file->getPathname(), \strlen($directory) + 1, -4));
        if (!class_exists($class) && !interface_exists($class) && !trait_exists($class)) {
            fwrite(\STDERR, sprintf("%s has no %s\n", $file->getPathname(), $class));
            exit(1);
        }
        ++$count;
    }
}
echo $count, "\n";
