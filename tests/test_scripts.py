"""Uses the scripts the way a newcomer does: as programs, against a WebSocket server that is not ours.

Needs scripts/requirements.txt installed. Run with pytest.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import jwt
from websockets.asyncio.server import serve

from ports import free_port

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent / "scripts"
GEN_KEYS = str(SCRIPTS / "gen_dev_keys.sh")
PUSH_DEMO = str(SCRIPTS / "push_demo.sh")
CLIENT = str(SCRIPTS / "ws_client.py")
TRACE_TREE = str(SCRIPTS / "trace_tree.py")
TIMEOUT_SECONDS = 20


def run(*command: str, **env: str) -> subprocess.CompletedProcess:
    """Runs a command with only the given settings in its environment."""
    return subprocess.run(
        command, env=clean_environment(env), text=True, capture_output=True, timeout=TIMEOUT_SECONDS
    )


def run_client(**env: str) -> subprocess.CompletedProcess:
    """Runs the client to its end."""
    return run(sys.executable, CLIENT, **env)


def clean_environment(extra: dict[str, str]) -> dict[str, str]:
    """A developer's own WS_* or JWT_* variables must not decide what is tested."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | extra


class Server:
    """A server that checks the token with the public key, then does what the test says."""

    def __init__(self, public_key: bytes, behaviour):
        self.public_key = public_key
        self.behaviour = behaviour
        self.claims: dict | None = None
        self.headers = None
        self.close_code: int | None = None

    async def handle(self, websocket) -> None:
        self.headers = websocket.request.headers
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        try:
            self.claims = jwt.decode(token, self.public_key, algorithms=["RS256"])
        except jwt.PyJWTError as error:
            await websocket.close(4401, f"{scheme} token refused: {type(error).__name__}")
            return
        try:
            await self.behaviour(websocket)
        finally:
            await websocket.wait_closed()
            self.close_code = websocket.close_code

    @contextlib.contextmanager
    def running(self):
        """Serves in a thread of its own and yields the address."""
        started = threading.Event()
        state = {}

        async def main() -> None:
            state["loop"] = asyncio.get_running_loop()
            state["stop"] = asyncio.Event()
            async with serve(self.handle, "127.0.0.1", 0) as server:
                port = server.sockets[0].getsockname()[1]
                state["url"] = f"ws://127.0.0.1:{port}/ws"
                started.set()
                await state["stop"].wait()

        thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
        thread.start()
        if not started.wait(TIMEOUT_SECONDS):
            raise AssertionError("the test's WebSocket server did not start")
        try:
            yield state["url"]
        finally:
            state["loop"].call_soon_threadsafe(state["stop"].set)
            thread.join(TIMEOUT_SECONDS)


async def echo_once(websocket) -> None:
    """Sends the first message back, then closes normally."""
    await websocket.send(await websocket.recv())
    await websocket.close(1000, "bye")


async def echo(websocket) -> None:
    """Sends everything back for as long as the client stays."""
    async for message in websocket:
        await websocket.send(message)


def close_with(code: int, reason: str):
    """A behaviour that closes at once."""

    async def behaviour(websocket) -> None:
        await websocket.close(code, reason)

    return behaviour


class ScriptTest(unittest.TestCase):
    """Gives every test a directory of its own."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.dir = pathlib.Path(directory.name)

    def assert_one_line_failure(self, result: subprocess.CompletedProcess, *words: str) -> None:
        """Asserts exit status 1 and one line for a person, never a traceback."""
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertNotIn("Traceback", result.stderr)
        lines = [line for line in result.stderr.splitlines() if not line.startswith("connected to")]
        self.assertEqual(len(lines), 1, result.stderr)
        for word in words:
            self.assertIn(word, lines[0])


class GenDevKeys(ScriptTest):
    def test_makes_a_pair_that_signs_and_verifies_rs256(self) -> None:
        keys = self.dir / "new" / "my keys"
        result = run(GEN_KEYS, str(keys))
        self.assertEqual(result.returncode, 0, result.stderr)
        token = jwt.encode({"user_id": "1"}, (keys / "private.pem").read_bytes(), "RS256")
        claims = jwt.decode(token, (keys / "public.pem").read_bytes(), algorithms=["RS256"])
        self.assertEqual(claims, {"user_id": "1"})

    def test_only_the_owner_reads_the_private_key(self) -> None:
        run(GEN_KEYS, str(self.dir))
        self.assertEqual((self.dir / "private.pem").stat().st_mode & 0o777, 0o600)
        self.assertNotIn("PRIVATE", (self.dir / "public.pem").read_text())

    def test_leaves_nothing_else_behind_and_ignores_only_its_own_directory(self) -> None:
        run(GEN_KEYS, str(self.dir / "keys"))
        run(GEN_KEYS, str(self.dir))
        self.assertEqual(
            sorted(path.name for path in self.dir.iterdir()), ["keys", "private.pem", "public.pem"]
        )
        self.assertEqual((self.dir / "keys" / ".gitignore").read_text(), "*\n")

    def test_never_overwrites_without_force(self) -> None:
        for existing in ("private.pem", "public.pem"):
            with self.subTest(existing):
                keys = self.dir / existing.removesuffix(".pem")
                keys.mkdir()
                (keys / existing).write_text("precious")
                result = run(GEN_KEYS, str(keys))
                self.assert_one_line_failure(result, existing, "--force")
                self.assertEqual([path.name for path in keys.iterdir()], [existing])
                self.assertEqual((keys / existing).read_text(), "precious")
                self.assertEqual(run(GEN_KEYS, "--force", str(keys)).returncode, 0)
                self.assertIn("PRIVATE", (keys / "private.pem").read_text())

    def test_prints_commands_that_can_be_pasted(self) -> None:
        keys = self.dir / "a b"
        result = run(GEN_KEYS, str(keys))
        shown = [line.strip() for line in result.stdout.splitlines() if "PRIVATE_KEY_FILE=" in line]
        setting = shown[0].split(" WS_SEND_MESSAGE")[0]
        echoed = run("bash", "-c", f'{setting}; printf %s "$JWT_PRIVATE_KEY_FILE"')
        self.assertEqual(echoed.stdout, str(keys / "private.pem"))

    def test_help_and_wrong_usage(self) -> None:
        self.assertIn("Usage:", run(GEN_KEYS, "--help").stdout)
        self.assertEqual(run(GEN_KEYS, "--forse").returncode, 2)
        self.assertEqual(run(GEN_KEYS, str(self.dir), "other").returncode, 2)
        self.assertEqual(list(self.dir.iterdir()), [])


class WsClient(ScriptTest):
    @classmethod
    def setUpClass(cls) -> None:
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        subprocess.run([GEN_KEYS, directory.name], check=True, capture_output=True)
        cls.private = os.path.join(directory.name, "private.pem")
        cls.public = pathlib.Path(directory.name, "public.pem").read_bytes()

    def talk(self, behaviour, **env: str) -> tuple[Server, subprocess.CompletedProcess]:
        """Runs the client against a server with the given behaviour."""
        server = Server(self.public, behaviour)
        with server.running() as url:
            result = run_client(**({"WS_URL": url, "JWT_PRIVATE_KEY_FILE": self.private} | env))
        return server, result

    def test_sends_text_as_it_is_and_prints_the_answer(self) -> None:
        text = '{"type":"ping"}  not JSON, "quoted", ünï'
        server, result = self.talk(echo_once, WS_SEND_MESSAGE=text)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout, text + "\n")
        self.assertIn("closed with code 1000: bye", result.stderr)
        self.assertEqual(server.claims["user_id"], "42")
        self.assertGreater(server.claims["exp"], time.time())

    def test_json_message_wins_and_is_not_reformatted(self) -> None:
        document = '{ "b":1.0,"a":[2] }'
        _, result = self.talk(echo_once, WS_MESSAGE_JSON=document, WS_SEND_MESSAGE="no")
        self.assertEqual(result.stdout, document + "\n")

    def test_user_and_claim_can_be_chosen(self) -> None:
        server, _ = self.talk(
            echo_once, WS_SEND_MESSAGE="x", JWT_USER_ID="anna", JWT_USER_ID_CLAIM="uid"
        )
        self.assertEqual(server.claims["uid"], "anna")

    def test_ready_token_needs_no_key(self) -> None:
        token = jwt.encode({"user_id": "7"}, pathlib.Path(self.private).read_bytes(), "RS256")
        server, result = self.talk(
            echo_once, WS_TOKEN=token, JWT_PRIVATE_KEY_FILE="/nowhere", WS_SEND_MESSAGE="x"
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(server.claims, {"user_id": "7"})
        self.assertEqual(server.headers["Authorization"], f"Bearer {token}")

    def test_stops_after_the_given_time_with_a_proper_close(self) -> None:
        server, result = self.talk(echo, WS_SEND_MESSAGE="x", WS_RECEIVE_SECONDS="0.5")
        self.assertEqual((result.returncode, result.stdout), (0, "x\n"), result.stderr)
        self.assertEqual(server.close_code, 1000)

    def test_prints_at_once_and_ctrl_c_ends_it_cleanly(self) -> None:
        with Server(self.public, echo).running() as url:
            env = clean_environment(
                {"WS_URL": url, "JWT_PRIVATE_KEY_FILE": self.private, "WS_SEND_MESSAGE": "early"}
            )
            client = subprocess.Popen(
                [sys.executable, CLIENT], env=env, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            with client:
                # Blocks until the test times out when output is held back for a pipe.
                self.assertEqual(client.stdout.readline(), "early\n")
                client.send_signal(signal.SIGINT)
                try:
                    _, errors = client.communicate(timeout=TIMEOUT_SECONDS)
                finally:
                    client.kill()
        self.assertEqual(client.returncode, 0, errors)
        self.assertIn("closed with code 1000", errors)

    def test_refused_token_is_exit_1(self) -> None:
        server, result = self.talk(echo_once, WS_TOKEN="not-a-token", WS_SEND_MESSAGE="x")
        self.assertIsNone(server.claims)
        self.assert_one_line_failure(result, "4401", "Bearer token refused: DecodeError")
        self.assertNotIn("not-a-token", result.stderr)

    def test_other_closes(self) -> None:
        for code, status in ((1000, 0), (1001, 0), (1013, 1), (4403, 1), (4408, 1)):
            with self.subTest(code):
                _, result = self.talk(close_with(code, "because"))
                self.assertEqual(result.returncode, status)
                self.assertIn(f"closed with code {code}: because", result.stderr)

    def test_comes_back_when_the_gateway_says_so(self) -> None:
        visits = []

        async def stop_once(websocket) -> None:
            visits.append(time.monotonic())
            if len(visits) == 1:
                await websocket.send('{"type":"event","payload":1}')
                await websocket.send('{"type":"reconnect","after_ms":300}')
                await websocket.close(1001, "gateway stopping")
            else:
                await websocket.send('{"type":"event","payload":2}')
                await websocket.close(1000, "done")

        _, result = self.talk(stop_once)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len(visits), 2)
        self.assertGreaterEqual(visits[1] - visits[0], 0.3)
        lines = result.stdout.splitlines()
        self.assertEqual((lines[0], lines[2]), ('{"type":"event","payload":1}', '{"type":"event","payload":2}'))
        self.assertIn("closed with code 1000: done", result.stderr)

    def test_a_hint_without_a_stop_means_nothing(self) -> None:
        async def mislead(websocket) -> None:
            await websocket.send('{"type":"reconnect","after_ms":1}')
            await websocket.close(4403, "go away")

        _, result = self.talk(mislead)
        self.assertEqual(result.returncode, 1)
        self.assertIn("closed with code 4403: go away", result.stderr)

    def test_lost_connection_is_exit_1(self) -> None:
        async def cut(websocket) -> None:
            websocket.transport.abort()

        _, result = self.talk(cut)
        self.assert_one_line_failure(result, "1006", "lost")

    def test_nothing_listens(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"ws://127.0.0.1:{unused.getsockname()[1]}/ws"
            self.assert_one_line_failure(run_client(WS_TOKEN="x", WS_URL=url), url, "refused")

    def test_not_a_websocket_server(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            def answer() -> None:
                peer, _ = listener.accept()
                with peer:
                    peer.recv(65536)
                    peer.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

            thread = threading.Thread(target=answer)
            thread.start()
            result = run_client(
                WS_TOKEN="x", WS_URL=f"ws://127.0.0.1:{listener.getsockname()[1]}/ws"
            )
            thread.join()
        self.assert_one_line_failure(result, "404")

    def test_wrong_settings(self) -> None:
        garbage = self.dir / "garbage.pem"
        garbage.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
        cases = {
            "no key": ({}, "JWT_PRIVATE_KEY_FILE"),
            "missing key": ({"JWT_PRIVATE_KEY_FILE": "/nowhere/k.pem"}, "/nowhere/k.pem"),
            "directory": ({"JWT_PRIVATE_KEY_FILE": str(self.dir)}, "cannot read"),
            "not a key": ({"JWT_PRIVATE_KEY_FILE": str(garbage)}, "not an unencrypted RSA"),
            "bad scheme": ({"WS_TOKEN": "x", "WS_URL": "http://localhost:1/ws"}, "WS_URL"),
            "bad port": ({"WS_TOKEN": "x", "WS_URL": "ws://localhost:port/ws"}, "ws://localhost"),
            "bad JSON": ({"WS_TOKEN": "x", "WS_MESSAGE_JSON": '{"a":'}, "WS_MESSAGE_JSON"),
            "bad time": ({"WS_TOKEN": "x", "WS_RECEIVE_SECONDS": "soon"}, "WS_RECEIVE_SECONDS"),
        }
        for name, (env, words) in cases.items():
            with self.subTest(name):
                self.assert_one_line_failure(run_client(**env), words)

    def test_help_names_every_setting(self) -> None:
        result = run(sys.executable, CLIENT, "--help")
        self.assertEqual(result.returncode, 0)
        source = pathlib.Path(CLIENT).read_text()
        for name in ("WS_URL", "WS_TOKEN", "WS_SEND_MESSAGE", "WS_MESSAGE_JSON", "JWT_USER_ID",
                     "JWT_USER_ID_CLAIM", "JWT_PRIVATE_KEY_FILE", "WS_RECEIVE_SECONDS"):
            self.assertIn(name, result.stdout)
            self.assertIn(f'"{name}"', source)

    def test_messages_are_whole_json_lines(self) -> None:
        async def push(websocket) -> None:
            for number in range(3):
                await websocket.send(json.dumps({"type": "event", "payload": number}))
            await websocket.close()

        _, result = self.talk(push)
        payloads = [json.loads(line)["payload"] for line in result.stdout.splitlines()]
        self.assertEqual(payloads, [0, 1, 2])


class PushDemo(ScriptTest):
    """Pushes to what a gateway would read from."""

    push = '{"subjects":["user:42"],"payload":{"n":1.50}}'

    def start(self, *command: str) -> subprocess.Popen:
        """Starts a server of the test's own, which ends with it."""
        server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.dir
        )

        def stop() -> None:
            # What reads its standard input ends with that, and cleans up.
            server.stdin.close()
            if command[0] != "sh":
                server.terminate()
            server.wait(TIMEOUT_SECONDS)

        self.addCleanup(stop)
        return server

    def eventually(self, *command: str) -> subprocess.CompletedProcess:
        """Repeats a command until it succeeds."""
        end = time.monotonic() + 60
        while (result := run(*command)).returncode != 0:
            self.assertLess(time.monotonic(), end, result.stderr)
            time.sleep(0.2)
        return result

    def test_terminator_mode_calls_the_gateway(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            requests = []

            def answer() -> None:
                peer, _ = listener.accept()
                with peer:
                    requests.append(peer.recv(65536).decode())
                    peer.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n{"sent":2}')

            thread = threading.Thread(target=answer)
            thread.start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            result = run(PUSH_DEMO, "42", '{"n":1.50}', WS_GATEWAY_BASE_URL=url, GATEWAY_API_KEY="hunter2")
            thread.join()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("POST /internal/publish", requests[0])
        self.assertIn("X-API-Key: hunter2", requests[0])
        self.assertTrue(requests[0].endswith(self.push), requests[0])
        self.assertNotIn("hunter2", result.stdout)

    def test_core_mode_adds_to_the_stream(self) -> None:
        port = str(free_port())
        self.start("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", str(self.dir))
        self.eventually("redis-cli", "-p", port, "ping")
        env = {"REDIS_DSN": f"redis://127.0.0.1:{port}/0", "REDIS_STREAM": "out"}
        for arguments, settings in (
            (["--mode", "core"], {}),
            ([], {"WS_MODE": "core"}),
            (["--transport=redis"], {"WS_MODE": "terminator"}),
            ([], {"WS_TRANSPORT_TYPE": "redis_stream"}),
        ):
            with self.subTest(arguments + list(settings)):
                result = run(PUSH_DEMO, *arguments, "42", '{"n":1.50}', **env, **settings)
                self.assertEqual(result.returncode, 0, result.stderr)
        entries = run("redis-cli", "-p", port, "xrange", "out", "-", "+").stdout.splitlines()
        self.assertEqual([line for line in entries if line.startswith("{")], [self.push] * 4)

    def test_rabbitmq(self) -> None:
        home = pathlib.Path(tempfile.mkdtemp())
        (home / "enabled_plugins").write_text("[].\n")
        port = str(free_port())
        (home / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\n")
        server = ["sh", str(SCRIPTS.parent / "tests/support/rabbitmq.sh"), str(home), port, str(free_port()), str(free_port())]
        self.start(*server)
        dsn = f"amqp://guest:guest@127.0.0.1:{port}/%2f"
        self.eventually("amqp-declare-queue", "--url", dsn, "-q", "ready")
        # A gateway declares the exchange; none has yet.
        missing = run(PUSH_DEMO, "--transport", "rabbitmq", "42", "1", RABBITMQ_DSN=dsn)
        self.assertEqual(missing.returncode, 1, missing.stdout)
        reader = subprocess.Popen(
            ["amqp-consume", "--url", dsn, "-e", "amq.direct", "-r", "out", "-c", "3", "cat"],
            stdout=subprocess.PIPE, text=True,
        )
        self.addCleanup(reader.kill)
        self.eventually("sh", "-c", '"$@" ctl list_bindings source_name | grep -q amq.direct', "sh", *server)
        for arguments, settings in (
            (["--transport", "rabbitmq"], {}),
            (["--mode=core", "--transport=rabbitmq"], {}),
            ([], {"WS_MODE": "core", "WS_TRANSPORT_TYPE": "rabbitmq"}),
        ):
            with self.subTest(arguments + list(settings)):
                result = run(
                    PUSH_DEMO, *arguments, "42", '{"n":1.50}', RABBITMQ_DSN=dsn, RABBITMQ_EXCHANGE="amq.direct",
                    RABBITMQ_ROUTING_KEY="out", **settings,
                )
                self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(reader.communicate(timeout=TIMEOUT_SECONDS)[0], self.push * 3)
        wrong = run(PUSH_DEMO, "--transport=rabbitmq", "1", RABBITMQ_DSN=dsn.replace("guest@", "hunter2@"))
        self.assertEqual(wrong.returncode, 1)
        self.assertNotIn("hunter2", wrong.stdout + wrong.stderr)

    def test_help_and_wrong_usage(self) -> None:
        self.assertIn("Usage:", run(PUSH_DEMO, "--help").stdout)
        for arguments in ([], ["--mode", "banana", "1"], ["--transport", "banana", "1"], ["--transport"],
                          ['a"b'], ["1", "2", "3"], ["--nonsense", "1"], ["--transport=rabbitmq", "1", "{oops"]):
            with self.subTest(arguments):
                self.assertEqual(run(PUSH_DEMO, *arguments, GATEWAY_API_KEY="x").returncode, 2)


class SecretHeaders(ScriptTest):
    """A key goes to curl as a line of its configuration, where quotes, backslashes and line breaks mean something."""

    # Script, what holds its key, and the header that bears it.
    SCRIPTS_WITH_KEYS = [
        ("push_demo.sh", "GATEWAY_API_KEY", "X-API-Key"),
        ("tracing_runtime_check.sh", "GATEWAY_API_KEY", "X-API-Key"),
        ("demo_message_flow.sh", "DEMO_API_KEY", "X-Demo-Key"),
        ("tracing_e2e_check.sh", "DEMO_API_KEY", "X-Demo-Key"),
    ]

    def call(self, *command: str, **env: str) -> tuple[subprocess.CompletedProcess, list[str | None]]:
        """Runs a command against a server that knows no key; gives what was in the header of each POST."""
        keys = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                keys.append(self.headers["X-API-Key"])
                self.send_response(401)
                self.end_headers()

            def log_message(self, *_arguments) -> None:
                """Says nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            return run(*command, WS_GATEWAY_BASE_URL=f"http://127.0.0.1:{server.server_address[1]}", **env), keys
        finally:
            server.shutdown()
            server.server_close()

    def test_quotes_and_backslashes_arrive_as_they_are(self) -> None:
        for key in ('quo"te', "back\\slash", '\\"both\\n\\\\', "\\", "a & b $HOME `id` 'c' #d"):
            for command in ((PUSH_DEMO, "42"), (str(SCRIPTS / "tracing_runtime_check.sh"),)):
                with self.subTest(command=command[0], key=key):
                    result, keys = self.call(*command, GATEWAY_API_KEY=key)
                    self.assertEqual(keys, [key], result.stderr)
                    self.assertIn("refuses the key", result.stderr)

    def test_line_breaks_are_refused(self) -> None:
        for name, variable, _ in self.SCRIPTS_WITH_KEYS:
            written = self.dir / name
            for line_break in "\n", "\r", "\r\n":
                with self.subTest(script=name, line_break=line_break):
                    key = f'hunter2"{line_break}dump-header = "{written}'
                    arguments = ["42"] if name == "push_demo.sh" else []
                    result, keys = self.call(
                        str(SCRIPTS / name), *arguments, JWT_PRIVATE_KEY_FILE="none", **{variable: key}
                    )
                    self.assertEqual((result.returncode, keys), (2, []), result.stderr)
                    self.assertIn(f"{variable} has a line break", result.stderr)
                    self.assertNotIn("hunter2", result.stdout + result.stderr)
                    self.assertFalse(written.exists())

    def test_every_script_writes_its_header_that_way(self) -> None:
        for script in sorted(SCRIPTS.glob("*.sh")):
            if script.name != "curl_header.sh":
                self.assertNotIn("'header =", script.read_text(), script.name)
        for name, variable, header in self.SCRIPTS_WITH_KEYS:
            text = (SCRIPTS / name).read_text()
            if ". scripts/demo_flow.sh" in text:
                text = (SCRIPTS / "demo_flow.sh").read_text()
            self.assertIn(f'$(curl_header {header} "${variable}")', text, name)


class TraceTree(ScriptTest):
    """What it reads of other stores than tests/otlp/collector.py, by their documented answers; tests/test_tracing.py has the rest."""

    TRACE = "0af7651916cd43dd8448eb211c80319c"
    CLIENT, MESSAGE, EVENT = "b7ad6b7169203331", "00000000000000aa", "00000000000000bb"
    JAEGER = {
        "data": [{
            "traceID": TRACE,
            "processes": {"p1": {"serviceName": "wsgw"}, "p2": {"serviceName": "symfony"}},
            "spans": [
                {
                    "traceID": TRACE, "spanID": "bb", "operationName": "ws.message_received", "processID": "p2",
                    "references": [{"refType": "CHILD_OF", "traceID": TRACE, "spanID": "aa"}],
                    "startTime": 1700000000000200, "duration": 100,
                    "tags": [{"key": "span.kind", "value": "consumer"}, {"key": "otel.status_code", "value": "ERROR"}],
                },
                {
                    "traceID": TRACE, "spanID": MESSAGE, "operationName": "ws.message", "processID": "p1",
                    "references": [{"refType": "CHILD_OF", "traceID": TRACE, "spanID": CLIENT}],
                    "startTime": 1700000000000100, "duration": 300, "tags": [{"key": "span.kind", "value": "server"}],
                },
            ],
        }],
    }
    TEMPO = {
        "batches": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "symfony"}}]},
                "scopeSpans": [{"spans": [{
                    "traceId": "CvdlGRbNQ92ESOshHIAxnA==", "spanId": "AAAAAAAAALs=", "parentSpanId": "AAAAAAAAAKo=",
                    "name": "ws.message_received", "kind": "SPAN_KIND_CONSUMER",
                    "startTimeUnixNano": "1700000000000200000", "endTimeUnixNano": "1700000000000300000",
                    "status": {"code": "STATUS_CODE_ERROR"},
                }]}],
            },
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "wsgw"}}]},
                "scopeSpans": [{"spans": [{
                    "traceId": TRACE.upper(), "spanId": MESSAGE.upper(), "parentSpanId": CLIENT.upper(),
                    "name": "ws.message", "kind": 2,
                    "startTimeUnixNano": "1700000000000100000", "endTimeUnixNano": "1700000000000400000", "status": {},
                }]}],
            },
        ],
    }
    TREE = ["wsgw: ws.message  [server, 0.3 ms]", "   └─ symfony: ws.message_received  [consumer, 0.1 ms, failed]"]

    @contextlib.contextmanager
    def store(self, answer):
        """A store that has one trace."""
        trace = self.TRACE

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = self.path == f"/api/traces/{trace}"
                self.send_response(200 if found else 404)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode() if found else b"404 page not found")

            def log_message(self, *_arguments) -> None:
                """Says nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            server.server_close()

    def show(self, url: str, *arguments: str, trace: str = TRACE) -> subprocess.CompletedProcess:
        return run(sys.executable, TRACE_TREE, "--url", url, "--seconds", "0", *arguments, trace)

    def test_draws_and_checks_what_jaeger_and_tempo_have(self) -> None:
        for answer in (self.JAEGER, self.TEMPO, {"trace": {"resourceSpans": self.TEMPO["batches"]}}):
            with self.subTest(list(answer)), self.store(answer) as url:
                shown = self.show(url, "--root", self.CLIENT, "--expect", "ws.message,nothing|ws.*_received")
                self.assertEqual(shown.returncode, 0, shown.stdout + shown.stderr)
                self.assertEqual(shown.stdout.splitlines(), [
                    *self.TREE,
                    "ok      ws.message of wsgw is below the client",
                    "ok      ws.message_received of symfony is below ws.message",
                ])

    def test_says_what_is_missing_or_elsewhere(self) -> None:
        with self.store(self.JAEGER) as url:
            shown = self.show(url, "--root", self.CLIENT, "--expect", "ws.message,webhook.publish,ws.message_received")
            self.assertEqual(shown.returncode, 1)
            self.assertIn("FAILED  webhook.publish is missing: nobody exported it", shown.stdout)
            self.assertIn("FAILED  ws.message_received: unknown", shown.stdout)
            shown = self.show(url, "--root", self.EVENT, "--expect", "ws.message_received")
            self.assertIn("FAILED  ws.message_received of symfony is below ws.message, not the client", shown.stdout)
            shown = self.show(url)
            self.assertIn(f"(parent {self.CLIENT} is not here)", shown.stdout)
            self.assertEqual(self.show(url, trace="1" * 32).returncode, 1)
            self.assertEqual(self.show(url, trace="nonsense").returncode, 2)
        self.assert_one_line_failure(self.show("http://127.0.0.1:1"), "nothing answers")


if __name__ == "__main__":
    unittest.main()
