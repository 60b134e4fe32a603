"""The image, the compose stacks and the quick starts, by a real Docker engine. test_compose.py looks at the compose files.

Run by scripts/image_test.sh, which gets an engine where none runs, builds the image, and says by variables where both are:
WSGW_TEST_IMAGE, WSGW_TEST_COMMIT, and WSGW_TEST_VENDOR, the demo's PHP libraries. Everything has names and ports of its
own, so that a stack that runs on the same engine is left alone.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from typing import Iterator

import jwt
import pytest
from websockets.sync.client import connect

from compose_files import ROOT, STACKS, merged, run
from ports import free_port

IMAGE = os.environ["WSGW_TEST_IMAGE"]
COMMIT = os.environ["WSGW_TEST_COMMIT"]
VENDOR = os.environ["WSGW_TEST_VENDOR"]
KEY = "a-key-for-the-test-of-the-image"
WAIT_SECONDS = 60
MEBIBYTE = 1 << 20


def docker(*arguments: object, check: bool = True, **options) -> str:
    return run("docker", *arguments, check=check, **options).stdout.strip()


def eventually(what: str, condition, seconds: float = WAIT_SECONDS):
    """Waits until the condition gives something true, and gives it."""
    deadline = time.monotonic() + seconds
    while True:
        if result := condition():
            return result
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.1)


def token(key: pathlib.Path | str, user: str = "42") -> str:
    return jwt.encode({"user_id": user, "exp": int(time.time()) + 600}, pathlib.Path(key).read_text(), "RS256")


def status(port: int, path: str, body: str | None = None, headers: dict[str, str] | None = None, host="127.0.0.1") -> tuple[int, str]:
    """Status and body of one request, whose path is sent as it is written."""
    connection = http.client.HTTPConnection(host, port, timeout=20)
    try:
        connection.request("GET" if body is None else "POST", path, body, headers or {})
        answer = connection.getresponse()
        try:
            text = answer.read()
        except http.client.IncompleteRead as cut:
            # Who refuses a body without reading it may close the connection before all of its answer has left.
            text = cut.partial
        return answer.status, text.decode(errors="replace")
    except OSError:
        return 0, ""
    finally:
        connection.close()


class Container:
    """A gateway as an operator starts it where nothing is trusted: read-only, without any capability."""

    def __init__(self, *command: str, options: tuple[object, ...] = (), env: dict[str, str] | None = None) -> None:
        self.keys = pathlib.Path(tempfile.mkdtemp())
        self.keys.chmod(0o755)
        shutil.copy(ROOT / "tests/keys/rsa.pub.pem", self.keys / "public.pem")
        (self.keys / "public.pem").chmod(0o644)
        settings = {"JWT_PUBLIC_KEY_FILE": "/keys/public.pem", "GATEWAY_API_KEY": KEY} | (env or {})
        self.id = docker(
            "run", "--detach", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
            "--publish", "127.0.0.1::8000", "--volume", f"{self.keys}:/keys:ro",
            *(part for name, value in settings.items() for part in ("--env", f"{name}={value}")), *options, IMAGE, *command,
        )

    def inspect(self, template: str) -> str:
        return docker("inspect", "--format", template, self.id)

    @property
    def port(self) -> int:
        return int(docker("port", self.id, "8000/tcp").splitlines()[0].rsplit(":", 1)[1])

    def log(self) -> list[dict]:
        """The log's lines, and the events on standard output."""
        done = run("docker", "logs", self.id)
        return [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if line.startswith("{")]

    def logged(self, **fields: object) -> bool:
        return any(all(line.get(name) == value for name, value in fields.items()) for line in self.log())

    def is_healthy(self) -> bool:
        return self.inspect("{{.State.Health.Status}}") == "healthy"

    def connect(self, user: str = "42"):
        return connect(f"ws://127.0.0.1:{self.port}/ws?token={token(ROOT / 'tests/keys/rsa.pem', user)}")

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self.id, check=False)
        shutil.rmtree(self.keys, ignore_errors=True)


@contextlib.contextmanager
def container(*command: str, **arguments) -> Iterator[Container]:
    started = Container(*command, **arguments)
    try:
        yield started
    finally:
        started.remove()


# The image


def test_the_image_is_small_and_has_nothing_but_the_gateway() -> None:
    inspected = json.loads(docker("image", "inspect", IMAGE))[0]
    assert inspected["Size"] < 30 * MEBIBYTE, f"{inspected['Size'] / MEBIBYTE:.1f} MiB"
    config = inspected["Config"]
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "/wsgw", "health"]
    assert config["Volumes"] == {"/data": {}}
    assert config["Labels"]["org.opencontainers.image.revision"] == COMMIT
    assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT"
    created = docker("create", IMAGE)
    try:
        with tempfile.TemporaryDirectory() as folder:
            docker("export", "--output", f"{folder}/image.tar", created)
            with tarfile.open(f"{folder}/image.tar") as archive:
                members = {member.name: member for member in archive}
    finally:
        docker("rm", "--volumes", created)
    # The engine adds empty files that it mounts others upon.
    programs = {name for name, member in members.items() if member.isfile() and member.size and member.mode & 0o111}
    libraries = re.compile(r"(usr/)?lib(64)?/")
    assert {name for name in programs if not libraries.match(name)} == {"wsgw"}
    assert not [name for name in members if name.rsplit("/", 1)[-1] in ("sh", "bash", "busybox", "apt")]
    assert not [name for name, member in members.items() if member.mode & 0o6000], "no program changes the user"
    assert members["data"].uid == members["data"].gid == 65532
    shipped = {path.name for path in (ROOT / "pipelines").glob("*.yaml")}
    assert {name.rsplit("/", 1)[1] for name in members if re.fullmatch(r"etc/wsgw/pipelines/[^/]+", name)} == shipped


def test_the_version_names_the_commit() -> None:
    assert docker("run", "--rm", IMAGE, "--version").endswith(f"({COMMIT})")


def test_a_message_a_push_a_reload_and_a_stop() -> None:
    with container("run", "--set", "events.stdout.enabled=true") as gateway:
        eventually("healthy", gateway.is_healthy)
        assert status(gateway.port, "/ready")[0] == 200
        pid = int(gateway.inspect("{{.State.Pid}}"))
        process = pathlib.Path(f"/proc/{pid}/status")
        if process.exists():
            assert "Uid:\t65532\t65532\t65532\t65532" in process.read_text()
        with gateway.connect() as client:
            client.send('{"type":"chat","payload":"hello"}')
            eventually("the message", lambda: gateway.logged(message={"type": "chat", "payload": "hello"}))
            push = json.dumps({"subjects": ["user:42"], "payload": {"text": "hi"}})
            assert status(gateway.port, "/internal/publish", push, {"X-API-Key": KEY}) == (200, '{"sent":1}')
            assert json.loads(client.recv(WAIT_SECONDS)) == {"type": "event", "payload": {"text": "hi"}}
            docker("kill", "--signal", "HUP", gateway.id)
            eventually("a reload", lambda: gateway.logged(event="reloaded"))
            client.send('{"type":"ping"}')
            assert json.loads(client.recv(WAIT_SECONDS)) == {"type": "pong"}
            docker("kill", "--signal", "TERM", gateway.id)
            # It is told when to come back, and then closed.
            assert all(json.loads(message)["type"] == "reconnect" for message in client)
            assert client.close_code == 1001
        eventually("the end", lambda: gateway.inspect("{{.State.Running}}") == "false")
        assert gateway.inspect("{{.State.ExitCode}}") == "0"
        assert gateway.log()[-1]["event"] == "stopped"


def test_a_wrong_configuration_ends_it_with_the_diagnostics() -> None:
    with container(env={"ORDERING_STRATEGY": "banana"}) as gateway:
        eventually("the end", lambda: gateway.inspect("{{.State.Running}}") == "false")
        assert gateway.inspect("{{.State.ExitCode}}") == "1"
        done = run("docker", "logs", gateway.id)
        printed = done.stdout + done.stderr
        assert re.search(r"^/etc/wsgw/pipelines/terminator.yaml:\d+:\d+: error\[\w+\]: .*banana", printed, re.MULTILINE), printed
        assert "ORDERING_STRATEGY" in printed
        # Nothing comes behind the diagnostics.
        assert "hint: " in printed.strip().splitlines()[-1], printed


def test_a_gateway_that_does_not_serve_is_unhealthy() -> None:
    with container(env={"WS_MODE": "core", "REDIS_DSN": "redis://127.0.0.1:1/0"}) as gateway:
        eventually("started", lambda: gateway.logged(event="listening"))
        asked = run("docker", "exec", gateway.id, "/wsgw", "health", check=False)
        assert asked.returncode == 1 and "503" in asked.stderr and "redis" in asked.stderr, asked.stderr
        assert run("docker", "exec", gateway.id, "/wsgw", "health", "--live").returncode == 0


def test_secrets_come_by_files_and_dead_letters_go_to_the_volume() -> None:
    with tempfile.TemporaryDirectory() as folder:
        secret = pathlib.Path(folder) / "key"
        secret.write_text(f"{KEY}\n")
        secret.chmod(0o644)
        pathlib.Path(folder).chmod(0o755)
        env = {
            "GATEWAY_API_KEY": "", "GATEWAY_API_KEY_FILE": "/run/secrets/key",
            "SYMFONY_WEBHOOK_URL": "http://127.0.0.1:1/", "WEBHOOK_RETRY_ATTEMPTS": "1",
        }
        with container(options=("--volume", f"{secret}:/run/secrets/key:ro"), env=env) as gateway:
            eventually("healthy", gateway.is_healthy)
            push = '{"subjects":["user:1"],"payload":1}'
            assert status(gateway.port, "/internal/publish", push, {"X-API-Key": KEY})[0] == 200
            assert status(gateway.port, "/internal/publish", push, {"X-API-Key": "other"})[0] == 401
            with gateway.connect():
                copied = pathlib.Path(folder) / "dead.jsonl"
                letter = ("cp", f"{gateway.id}:/data/wsgw-dead-letters.jsonl", copied)
                eventually("a dead letter", lambda: run("docker", *letter, check=False).returncode == 0 and copied.read_text())
            assert json.loads(copied.read_text().splitlines()[0])["sink"] == "webhook"


# The stacks


class Stack:
    """A quick start, typed in a fresh copy of the repository."""

    def __init__(self, script: str) -> None:
        self.script = script
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="wsgw-stack-"))
        listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (self.directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.directory / name)
        (self.directory / "target").mkdir()
        (self.directory / "target/venv").symlink_to(sys.prefix)
        self.ports = {name: free_port() for name in ("WEB", "GATEWAY", "RABBITMQ_UI", "REDIS", "RABBITMQ", "API")}
        is_core = "core" in script
        context = {"build": {"additional_contexts": {"vendor": VENDOR}}}
        files = STACKS["core" if is_core else "terminator"]
        command = merged(files)["services"]["traefik"]["command"]
        command = [part for part in command if "entryPoints.traefik" not in part]
        override = {
            "services": {
                # The image under test, as it was built.
                "gateway": {"image": IMAGE, "pull_policy": "never"},
                "symfony": context,
                **({"symfony-consumer": context} if is_core else {}),
                # Traefik tells its routers on a port of the test's own.
                "traefik": {
                    "command": [*command, "--entryPoints.traefik.address=:8099", "--api.insecure=true"],
                    "ports": [f"127.0.0.1:{self.ports['API']}:8099"],
                },
            }
        }
        text = json.dumps(override).replace('"pull_policy": "never"', '"pull_policy": "never", "build": !reset null')
        (self.directory / "test.yaml").write_text(text)
        self.env = os.environ | {
            "COMPOSE_FILE_EXTRA": "test.yaml",
            "COMPOSE_FILE": ":".join([*files, "test.yaml"]),
            "COMPOSE_PROJECT_NAME": f"wsgw-test-{uuid.uuid4().hex[:8]}",
            "SYMFONY_IMAGE": "wsgw-symfony:test",
            "FLOW_SECONDS": "60",
            **{f"LOCAL_{name}_PORT": str(port) for name, port in self.ports.items()},
        }

    def run(self, *command: object, check: bool = True) -> subprocess.CompletedProcess:
        return run(*command, check=check, cwd=self.directory, env=self.env)

    def compose(self, *arguments: object) -> str:
        return self.run("docker", "compose", *arguments).stdout.strip()

    def remove(self) -> None:
        if not self.directory.exists():
            return
        self.run("docker", "compose", "down", "--volumes", "--timeout", "20", check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def connect(self, user: str = "7"):
        key = self.directory / "keys/private.pem"
        return connect(f"ws://127.0.0.1:{self.ports['WEB']}/ws?token={token(key, user)}")

    def routers(self) -> dict[str, str]:
        """The state of every router, by name."""
        found = {}
        for kind in ("http", "tcp"):
            code, body = status(self.ports["API"], f"/api/{kind}/routers")
            assert code == 200
            found |= {router["name"]: router["status"] for router in json.loads(body)}
        return found


@contextlib.contextmanager
def quick_start(script: str) -> Iterator[Stack]:
    stack = Stack(script)
    try:
        done = stack.run(f"./scripts/{script}", check=False)
        if done.returncode != 0:
            logs = stack.run("docker", "compose", "logs", "--tail", "40", check=False)
            raise AssertionError(f"{logs.stdout}\n{script}:\n{done.stdout}\n{done.stderr[-2000:]}")
        assert "Both ways work." in done.stdout
        yield stack
    finally:
        stack.remove()


@pytest.fixture(scope="module")
def terminator() -> Iterator[Stack]:
    with quick_start("quickstart_terminator.sh") as stack:
        yield stack


@pytest.fixture(scope="module")
def core() -> Iterator[Stack]:
    with quick_start("quickstart_core.sh") as stack:
        yield stack


# What must not come through Traefik, however it is written.
CLOSED = [
    "/internal/publish", "/internal/connections", "/internal/ws/events", "/internal", "/metrics", "/health", "/ready", "/admin",
    "/admin/", "/INTERNAL/publish", "/%69nternal/publish", "//internal/publish", "/./internal/publish",
    "/ws/../internal/publish", "/api/../internal/publish", "/api/%2e%2e/internal/publish", "/api/..%2finternal/publish",
    "/chat/..;/internal/publish", "/api/..\\internal\\publish", "/ws/internal/publish", "/dashboard/", "/api/rawdata",
    "/api/http/routers", "/api/..%2Finternal%2Fws%2Fevents", "/demo/../metrics",
]


def assert_closed(port: int, key: str, host: str = "127.0.0.1") -> None:
    for path in CLOSED:
        for body in (None, '{"subjects":["user:7"],"payload":1}'):
            code, text = status(port, path, body, {"X-API-Key": key}, host)
            assert code in (301, 302, 400, 404, 405), f"{path}: {code} {text[:200]}"
            assert "sent" not in text and "wsgw_" not in text and "connections" not in text, f"{path}: {text[:200]}"


def test_the_quick_start_of_terminator_mode(terminator: Stack) -> None:
    states = terminator.routers()
    assert {name.split("@")[0] for name in states} >= {"gateway", "symfony", "rabbitmq-ui", "redis", "amqp"}
    assert set(states.values()) == {"enabled"}
    assert status(terminator.ports["WEB"], "/api/ping")[0] == 200
    environment = (terminator.directory / ".env").read_text()
    key = re.search(r"^GATEWAY_API_KEY=(.*)$", environment, re.MULTILINE)[1]
    assert_closed(terminator.ports["WEB"], key)
    assert status(terminator.ports["GATEWAY"], "/ready")[0] == 200
    with terminator.connect() as client:
        terminator.run("./scripts/push_demo.sh", "--compose", "7", '{"n":1}')
        assert json.loads(client.recv(WAIT_SECONDS)) == {"type": "event", "payload": {"n": 1}}
    # Whose connection it is, Traefik says; the gateway's own port says nothing of it.
    assert status(terminator.ports["GATEWAY"], "/ws")[0] == 404
    assert terminator.run(f"./scripts/{terminator.script}", "--help").stdout.startswith("The quick start")


def test_the_quick_start_of_core_mode(core: Stack) -> None:
    assert set(core.routers().values()) == {"enabled"}
    environment = (core.directory / ".env").read_text()
    assert_closed(core.ports["WEB"], re.search(r"^GATEWAY_API_KEY=(.*)$", environment, re.MULTILINE)[1])
    assert status(core.ports["RABBITMQ_UI"], "/")[0] == 200
    gateways = core.compose("ps", "--quiet", "gateway").split()
    assert len(gateways) == 2
    # Both serve: connections are made until each has some.
    with contextlib.ExitStack() as clients:

        def on(gateway: str) -> int:
            done = run("docker", "logs", gateway)
            return sum('"ws_connected"' in line for line in (done.stdout + done.stderr).splitlines())

        found: list = []

        def both() -> bool:
            found.append(clients.enter_context(core.connect(f"user-{len(found)}")))
            return all(on(gateway) for gateway in gateways) or len(found) > 100

        eventually("a connection of each gateway", both)
        assert all(on(gateway) for gateway in gateways), [on(gateway) for gateway in gateways]
        for number, client in enumerate(found):
            core.run("./scripts/push_demo.sh", "--compose", "--mode", "core", f"user-{number}", '{"n":2}')
            assert json.loads(client.recv(WAIT_SECONDS)) == {"type": "event", "payload": {"n": 2}}
    # One is killed: whoever comes is served by the other.
    docker("kill", gateways[0])
    core.run("./scripts/demo_message_flow.sh", "--compose", "8")


def test_traefik_of_a_server() -> None:
    """With the shipped arguments, in a network that leads nowhere, so that nobody is asked for a certificate."""
    settings = merged(STACKS["terminator on a server"])["services"]["traefik"]
    command = [part for part in settings["command"] if "entryPoints.traefik" not in part]
    name = f"wsgw-test-{uuid.uuid4().hex[:8]}"
    docker("network", "create", "--internal", name)
    with contextlib.ExitStack() as stack:
        stack.callback(docker, "network", "rm", name)
        gateway = stack.enter_context(container(
            options=("--network", name, "--network-alias", "gateway"),
            env={"WSGW_INTERNAL_LISTEN": "0.0.0.0:8001"},
        ))
        traefik = docker(
            "run", "--detach", "--network", name, "--read-only", "--cap-drop", "ALL", "--tmpfs", "/acme",
            "--security-opt", "no-new-privileges",
            "--volume", f"{ROOT}/traefik/routes.yaml:/etc/traefik/dynamic/routes.yaml:ro", settings["image"],
            *command, "--entryPoints.traefik.address=:8099", "--api.insecure=true",
        )
        stack.callback(docker, "rm", "--force", "--volumes", traefik)
        address = docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", traefik)

        def routed() -> dict[str, dict]:
            code, body = status(8099, "/api/http/routers", host=address)
            found = {router["name"]: router for router in json.loads(body)} if code == 200 else {}
            return found if {"gateway@file", "symfony@file"} <= set(found) else {}

        routers = eventually("Traefik's routers", routed)
        for router in routers.values():
            assert router["status"] == "enabled", router
        for router in ("gateway@file", "symfony@file"):
            assert routers[router]["entryPoints"] == ["websecure"]
            assert routers[router]["tls"]["certResolver"] == "letsencrypt"
        connection = http.client.HTTPConnection(address, 8080, timeout=20)
        connection.request("GET", "/ws", headers={"Host": "ws.example.org"})
        answer = connection.getresponse()
        assert answer.status in (301, 308)
        assert answer.headers["Location"] == "https://ws.example.org/ws"
        connection.close()
        eventually("the gateway", lambda: gateway.logged(event="started"))
        # No authority has signed for this name.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        url = f"wss://{address}:8443"
        with connect(f"{url}/ws?token={token(ROOT / 'tests/keys/rsa.pem')}", ssl=context) as client:
            client.send('{"type":"ping"}')
            assert json.loads(client.recv(WAIT_SECONDS)) == {"type": "pong"}
        for path in CLOSED:
            connection = http.client.HTTPSConnection(address, 8443, timeout=20, context=context)
            connection.request("GET", path, headers={"X-API-Key": KEY})
            code = connection.getresponse().status
            connection.close()
            # No application runs here: what is handed to it is answered with 502, and was not the gateway's.
            assert code in (301, 302, 308, 400, 404, 502), f"{path}: {code}"
