<?php

declare(strict_types=1);

/*
 * Answers one WebSocket handshake, then sends bytes: php scripted-websocket.php PORT HEAD PIECE...
 *
 * HEAD is the answer's first lines, where ACCEPT stands for the right Sec-WebSocket-Accept. PIECE is hexadecimal; the
 * pieces are sent with pauses in between. Standard output has, as hexadecimal, what the client sent after its handshake.
 */

$server = stream_socket_server('tcp://127.0.0.1:' . $argv[1]);
do {
    // Whoever tries whether it listens closes at once.
    $client = stream_socket_accept($server, 20);
    $request = '';
    while (!str_contains($request, "\r\n\r\n") && false !== ($line = fgets($client))) {
        $request .= $line;
    }
} while ('' === $request);
preg_match('/^Sec-WebSocket-Key: (\S+)/mi', $request, $found);
$accept = base64_encode(sha1($found[1] . '258EAFA5-E914-47DA-95CA-C5AB0DC85B11', true));
fwrite($client, str_replace(['ACCEPT', '\r\n'], [$accept, "\r\n"], $argv[2]));
foreach (array_slice($argv, 3) as $piece) {
    usleep(20_000);
    fwrite($client, hex2bin($piece));
}
stream_set_timeout($client, 2);
while (!feof($client) && '' !== ($bytes = (string) fread($client, 8192))) {
    fwrite(STDOUT, bin2hex($bytes) . "\n");
}
