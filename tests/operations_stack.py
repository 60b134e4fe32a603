"""A gateway as operators run it, for tests/test_operations.py: with Redis, a backend, clients, and a Prometheus.

All of it is real and on private ports; `Stack` stops what it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Iterator

import jwt
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as sync_connect

from ports import free_port

ROOT = pathlib.Path(__file__).resolve().parent.parent
WAIT_SECONDS = 30
API_KEY = "a-key-for-the-operations"
SECRET = "a-secret-for-the-operations"


def binary() -> pathlib.Path:
    """The gateway: $WSGW_BIN, else the newer one of the release and the debug build."""
    if given := os.environ.get("WSGW_BIN"):
        return pathlib.Path(given).resolve()
    built = [path for path in (ROOT / f"target/{profile}/wsgw" for profile in ("release", "debug")) if path.exists()]
    assert built, "no gateway to test with: run `cargo build`"
    return max(built, key=lambda path: path.stat().st_mtime)


def eventually(what: str, condition, seconds: float = WAIT_SECONDS):
    """Waits until the condition gives something true, and gives it."""
    deadline = time.monotonic() + seconds
    while True:
        if result := condition():
            return result
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.1)


def fetch(url: str, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and body of one request, 0 where nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


class Backend:
    """Takes webhooks and answers with `status`."""

    def __init__(self) -> None:
        self.status = 204
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(backend.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A gateway that is killed leaves in the middle of a request."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/webhook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Clients:
    """Clients that send a message every now and then and read what they are pushed, until they are stopped."""

    def __init__(self, url: str, count: int, message: dict, pause_seconds: float = 0.2):
        self.url, self.message, self.pause_seconds = url, message, pause_seconds
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.all(count)), daemon=True)
        self.thread.start()

    async def all(self, count: int) -> None:
        await asyncio.gather(*(self.one(str(number)) for number in range(count)))

    async def one(self, user: str) -> None:
        while not self.stopping.is_set():
            with contextlib.suppress(OSError, Exception):
                async with connect(f"{self.url}?token={token(user)}") as socket_:
                    while not self.stopping.is_set():
                        await socket_.send(json.dumps(self.message))
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(socket_.recv(), self.pause_seconds)
            await asyncio.sleep(0.1)

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(WAIT_SECONDS)


def token(user: str, key: str | None = None) -> str:
    """A token that the gateway accepts, unless it is signed by another key."""
    key = key or (ROOT / "tests/keys/rsa.pem").read_text()
    return jwt.encode({"user_id": user, "exp": time.time() + 3600}, key, "RS256")


def refused(url: str, given: str) -> None:
    """A client whose token is refused."""
    with sync_connect(f"{url}?token={given}") as client:
        try:
            client.recv()
        except ConnectionClosed:
            pass
        assert client.close_code == 4401, client.close_code


@contextlib.contextmanager
def repeated(action) -> Iterator[None]:
    """Does it again and again, beside what follows."""
    stopping = threading.Event()

    def repeat() -> None:
        while not stopping.is_set():
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(WAIT_SECONDS)


class Stack:
    """Redis, a backend, gateways and a Prometheus that scrapes them, in a folder of their own."""

    def __init__(self, home: pathlib.Path):
        self.home = home
        self.processes: dict[str, subprocess.Popen] = {}
        self.redis_port = free_port()
        self.backend = Backend()
        self.gateways: dict[str, int] = {}
        self.prometheus_port = 0

    def start(self, name: str, *command: str, env: dict[str, str] | None = None) -> subprocess.Popen:
        folder = self.home / name
        folder.mkdir(exist_ok=True)
        with (folder / "log").open("a") as log:
            process = subprocess.Popen(
                command, cwd=folder, env={"PATH": os.environ["PATH"]} | (env or {}), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )
        self.processes[name] = process
        return process

    def log(self, name: str) -> str:
        return (self.home / name / "log").read_text()[-4000:]

    def start_redis(self) -> None:
        self.start("redis", "redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "",
                   "--appendonly", "no")
        eventually("Redis", lambda: self.redis("PING").strip() == "PONG")

    def redis(self, *command: str) -> str:
        return subprocess.run(
            ["redis-cli", "-p", str(self.redis_port), *command], capture_output=True, text=True, timeout=WAIT_SECONDS
        ).stdout

    def leases(self) -> list[str]:
        """The gateways that Redis knows of, as `node/process`."""
        return self.redis("ZRANGE", "wsgw:nodes", "0", "-1").split()

    def start_gateway(self, name: str = "gateway", pipeline: str | None = None, **env: str) -> None:
        """A gateway with a file of its own, events to webhook and Redis."""
        port = self.gateways.setdefault(name, free_port())
        folder = self.home / name
        folder.mkdir(exist_ok=True)
        file = folder / "pipeline.yaml"
        if not file.exists():
            file.write_text(pipeline or (ROOT / "pipelines/both.yaml").read_text())
        self.start(name, str(binary()), "run", str(file), env={
            "WSGW_LISTEN": f"127.0.0.1:{port}",
            "GATEWAY_API_KEY": API_KEY,
            "JWT_PUBLIC_KEY_FILE": str(ROOT / "tests/keys/rsa.pub.pem"),
            "REDIS_DSN": f"redis://127.0.0.1:{self.redis_port}/0",
            "SYMFONY_WEBHOOK_URL": self.backend.url,
            "SYMFONY_WEBHOOK_SECRET": SECRET,
            "WEBHOOK_RETRY_BASE_SECONDS": "0.05",
        } | env)
        eventually(f"{name} is ready", lambda: self.get(name, "/ready")[0] == 200 or self.failed(name))

    def failed(self, name: str) -> None:
        assert self.processes[name].poll() is None, self.log(name)

    def get(self, name: str, path: str, **headers: str) -> tuple[int, str]:
        return fetch(f"http://127.0.0.1:{self.gateways[name]}{path}", headers=headers)

    def call(self, name: str, path: str, body: object, key: str = API_KEY) -> tuple[int, str]:
        return fetch(f"http://127.0.0.1:{self.gateways[name]}{path}", body, {"X-API-Key": key})

    def websocket(self, name: str = "gateway") -> str:
        return f"ws://127.0.0.1:{self.gateways[name]}/ws"

    def push_by_redis(self, body: str) -> None:
        self.redis("XADD", "ws.outbox", "*", "data", body)

    def start_prometheus(self, rules: str, interval: str = "1s") -> None:
        """Prometheus with the shipped scrape configuration, made quick, and these rules."""
        self.prometheus_port = free_port()
        folder = self.home / "prometheus"
        folder.mkdir()
        config = (ROOT / "docs/operations/prometheus.yaml").read_text()
        targets = json.dumps([f"127.0.0.1:{port}" for port in self.gateways.values()])
        config, changed = re.subn(r'targets: \["localhost:8000"\]', f"targets: {targets}", config)
        assert changed == 1
        config = config.replace(": 15s", f": {interval}")
        (folder / "prometheus.yaml").write_text(config)
        (folder / "alerts.yaml").write_text(rules)
        self.start("prometheus", "prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data",
                   f"--web.listen-address=127.0.0.1:{self.prometheus_port}", "--log.level=warn")
        eventually("Prometheus", lambda: fetch(self.prometheus("/-/ready"))[0] == 200)

    def prometheus(self, path: str, **query: str) -> str:
        query_string = f"?{urllib.parse.urlencode(query)}" if query else ""
        return f"http://127.0.0.1:{self.prometheus_port}{path}{query_string}"

    def query(self, expression: str) -> list[dict]:
        """The result of an instant query."""
        status, text = fetch(self.prometheus("/api/v1/query", query=expression))
        assert status == 200, f"{expression}\n{text}"
        return json.loads(text)["data"]["result"]

    def rules(self) -> list[dict]:
        groups = json.loads(fetch(self.prometheus("/api/v1/rules"))[1])["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def firing(self) -> dict[str, dict]:
        """The alerts that fire, by name."""
        alerts = json.loads(fetch(self.prometheus("/api/v1/alerts"))[1])["data"]["alerts"]
        return {alert["labels"]["alertname"]: alert for alert in alerts if alert["state"] == "firing"}

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def leave(self) -> None:
        for name in reversed(list(self.processes)):
            self.stop(name, signal.SIGKILL)
        self.backend.stop()
