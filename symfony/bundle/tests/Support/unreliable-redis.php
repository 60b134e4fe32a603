<?php

declare(strict_types=1);

/*
 * Speaks as much Redis as it takes to fail: php unreliable-redis.php PORT WORD...
 *
 * Each command is met with the next word: "answer" = +OK, "close" = closes the connection instead, "hang" = nothing.
 * Standard output has the words that were used.
 */

$server = stream_socket_server('tcp://127.0.0.1:' . $argv[1]);
$words = array_slice($argv, 2);
while (false !== $client = stream_socket_accept($server, -1)) {
    while (false !== $line = fgets($client)) {
        for ($left = 2 * (int) substr($line, 1); $left > 0; --$left) {
            fgets($client);
        }
        $word = array_shift($words);
        fwrite(STDOUT, $word . "\n");
        if ('answer' === $word) {
            fwrite($client, "+OK\r\n");
        } elseif ('close' === $word) {
            break;
        }
    }
    fclose($client);
}
