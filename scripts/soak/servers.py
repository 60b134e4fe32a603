"""Redis and the gateway, each a process of the run's own, and the connections that the run has to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import time

HOST = "127.0.0.1"
START_SECONDS = 30
TICKS = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """Something the user can act on; its text is all that is shown."""


def free_port() -> int:
    """A port that nobody listens on. Not an ephemeral one: a client that retries while the server restarts could get it."""
    for _ in range(200):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise Failure("no free port between 20000 and 32000")


def spawn(command: list[str], log: pathlib.Path, **options) -> subprocess.Popen:
    """Starts a server that does not outlive this process, and is out of reach of the terminal's Ctrl-C."""
    if shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    with log.open("ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **options
        )


class Redis:
    """A Redis that writes every command to disk before it answers, so that what it confirmed survives a kill."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.port = free_port()
        self.dsn = f"redis://{HOST}:{self.port}/0"
        self._directory = directory
        self._log = directory.parent / "redis.log"
        self._process: subprocess.Popen | None = None
        directory.mkdir(parents=True, exist_ok=True)

    async def start(self) -> None:
        """Starts it, or starts it again with its data."""
        self._process = spawn(
            [
                "redis-server", "--bind", HOST, "--port", str(self.port), "--dir", str(self._directory), "--save", "",
                "--appendonly", "yes", "--appendfsync", "always",
            ],
            self._log,
        )
        link = RedisLink(self.port)
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                await link.command("PING")
                link.close()
                return
            except (OSError, RedisError):
                link.close()
                if self._process.poll() is not None or time.monotonic() > give_up:
                    raise Failure(f"redis-server does not start, see {self._log}") from None
                await asyncio.sleep(0.05)

    async def stop(self, how: signal.Signals) -> None:
        """Ends it by a signal, and waits for its end."""
        process, self._process = self._process, None
        if process:
            process.send_signal(how)
            await asyncio.to_thread(process.wait)

    def kill(self) -> None:
        """Ends it without a word, when the run is over."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


class RedisError(Exception):
    """Redis answered by an error."""


class RedisLink:
    """One connection to Redis; connects by itself, and again after a failure."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def command(self, *words: str | bytes | int):
        """Sends one command and gives its answer. Raises OSError when the connection fails, RedisError for an error."""
        try:
            if not self._streams:
                self._streams = await asyncio.open_connection(HOST, self._port, limit=1 << 20)
            reader, writer = self._streams
            parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
            writer.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
            await writer.drain()
            return await self._answer(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise ConnectionError(f"Redis: {error}") from None
        except asyncio.CancelledError:
            # Half an answer may still come.
            self.close()
            raise

    async def _answer(self, reader: asyncio.StreamReader):
        line = (await reader.readuntil(b"\r\n"))[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest.decode()
        length = int(rest)
        if length < 0:
            return None
        if kind == b"$":
            return (await reader.readexactly(length + 2))[:-2]
        return [await self._answer(reader) for _ in range(length)]

    def close(self) -> None:
        """Ends the connection."""
        if self._streams:
            self._streams[1].close()
            self._streams = None


class Api:
    """One connection to the gateway's HTTP API, kept alive."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: bytes = b"", key: str | None = None) -> tuple[int, bytes]:
        """Gives the status and the body of the answer. Raises OSError when the connection fails."""
        if not self._streams:
            self._streams = await asyncio.open_connection(HOST, self._port, limit=1 << 20)
        reader, writer = self._streams
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: soak\r\nX-API-Key: {self._key if key is None else key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            writer.write(head.encode() + body)
            await writer.drain()
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in answer[1:] if ": " in line)
            return int(answer[0].split()[1]), await reader.readexactly(int(headers.get("content-length", 0)))
        except asyncio.IncompleteReadError as error:
            self.close()
            raise ConnectionError(f"the gateway ended an HTTP connection: {error}") from None
        except BaseException:
            self.close()
            raise

    async def metrics(self) -> dict[str, float]:
        """Every series of /metrics, by its name and labels as they stand there."""
        _, text = await self.call("GET", "/metrics")
        lines = (line for line in text.decode().splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def close(self) -> None:
        """Ends the connection."""
        if self._streams:
            self._streams[1].close()
            self._streams = None


class Gateway:
    """The gateway under test, with a file that it reloads."""

    def __init__(self, binary: pathlib.Path, directory: pathlib.Path, settings: dict[str, str], key: str) -> None:
        self.port = free_port()
        self.log = directory / "gateway.log"
        self.file = directory / "gateway.yaml"
        self.dead_letters = directory / "wsgw-dead-letters.jsonl"
        self._directory, self._key = directory, key
        self._process: subprocess.Popen | None = None
        # A copy: memory that another process of the same file maps too would count for a part only.
        copy = directory / "wsgw"
        shutil.copy(binary, copy)
        self._command = [str(copy), "run", str(self.file)]
        # Nothing of the developer's own settings reaches it.
        self._env = {
            "PATH": os.environ.get("PATH", ""), "WS_MODE": "core", "WSGW_LISTEN": f"{HOST}:{self.port}",
            "GATEWAY_API_KEY": key, "LOG_LEVEL": "warn",
        } | settings

    @property
    def pid(self) -> int:
        """The process' id."""
        assert self._process
        return self._process.pid

    def api(self) -> Api:
        """A connection of its own."""
        return Api(self.port, self._key)

    def write(self, text: str) -> None:
        """Puts another pipeline file in place, as an editor does: whole or not at all."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    async def start(self) -> None:
        """Starts it, and waits until it is ready."""
        self._process = spawn(self._command, self.log, cwd=self._directory, env=self._env)
        give_up = time.monotonic() + START_SECONDS
        api = self.api()
        status = 0
        while status != 200:
            await asyncio.sleep(0.05)
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise Failure(f"the gateway does not get ready, see {self.log}")
            with contextlib.suppress(OSError):
                status, _ = await api.call("GET", "/ready")
        api.close()

    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def reload(self) -> None:
        """Has it read its file again."""
        os.kill(self.pid, signal.SIGHUP)

    async def stop(self) -> int:
        """Ends it by SIGTERM, and gives its exit code."""
        assert self._process
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return await asyncio.to_thread(self._process.wait, 60)
        self.kill()
        return -signal.SIGKILL

    def kill(self) -> None:
        """Ends it without a word, when the run is over."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def usage(self) -> dict[str, float]:
        """What the process has in use: memory in KiB, descriptors, threads, CPU in seconds."""
        proc = pathlib.Path(f"/proc/{self.pid}")
        memory = dict(
            line.split()[:2] for line in (proc / "smaps_rollup").read_text().splitlines()[1:]
        )
        # After the name, which is in brackets and may have blanks.
        stat = (proc / "stat").read_text().rpartition(")")[2].split()
        return {
            "pss_kib": int(memory["Pss:"]),
            "anon_kib": int(memory["Anonymous:"]),
            "rss_kib": int(memory["Rss:"]),
            "fds": len(list((proc / "fd").iterdir())),
            "threads": int(stat[17]),
            "cpu_seconds": (int(stat[11]) + int(stat[12])) / TICKS,
        }

    def log_lines(self) -> list[dict]:
        """The log's lines; what is no JSON, such as a panic, is a line of level `RAW`."""
        lines = []
        for text in self.log.read_text(errors="replace").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                lines.append({"level": "RAW", "message": text})
        return lines
