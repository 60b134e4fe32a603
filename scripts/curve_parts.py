"""The servers, load tools and meters of curves.py: what it starts and stops, and what it reads of the kernel."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import secrets
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

HOST = "127.0.0.1"
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
# What the kernel keeps for a TCP socket and its descriptor, by the names of its slab caches.
SOCKET_SLABS = {
    "TCP", "sock_inode_cache", "filp", "bfilp", "dentry", "eventpoll_epi", "eventpoll_pwq", "ep_head",
    "skbuff_head_cache", "skbuff_small_head", "tcp_bind_bucket", "tcp_bind2_bucket",
}  # fmt: skip


class Failed(Exception):
    """The measuring cannot go on; the text says why."""


class CpuClock:
    """CPU time of processes: by the scheduler's nanoseconds, or by ticks where threads that ended make those too few."""

    def __init__(self, pids: list[int]):
        self.pids = pids

    def read(self) -> tuple[float, float]:
        """Seconds by the scheduler and by ticks; their differences go to `between`."""
        precise = ticks = 0.0
        for pid in self.pids:
            try:
                stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += (int(stat[11]) + int(stat[12])) * TICK_SECONDS
                for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
                    with contextlib.suppress(OSError, ValueError):
                        precise += int((thread / "schedstat").read_text().split()[0]) / 1e9
            except (OSError, IndexError) as error:
                raise Failed(f"process {pid} ended while it was measured: {error}") from None
        return precise, ticks

    @staticmethod
    def between(before: tuple[float, float], after: tuple[float, float]) -> float:
        """Seconds used; ticks may be off by one at either end."""
        return max(after[0] - before[0], after[1] - before[1] - 2 * TICK_SECONDS)

    def quiet(self, longest: float = 15.0, calm: float = 0.5) -> None:
        """Waits until next to nothing is used for a while, so that late work counts too."""
        end = time.monotonic() + longest
        since, last = time.monotonic(), self.read()[1]
        while time.monotonic() - since < calm and time.monotonic() < end:
            time.sleep(0.1)
            now = self.read()[1]
            if now > last + 1.5 * TICK_SECONDS:
                since, last = time.monotonic(), now


def fields(path: str) -> dict[str, int]:
    """A file of `Name: number` lines, such as /proc/meminfo, whose kB become bytes."""
    found = {}
    for line in pathlib.Path(path).read_text().splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def pss(pids: list[int]) -> int:
    """Proportional set size of processes together, in bytes."""
    return sum(fields(f"/proc/{pid}/smaps_rollup")["Pss"] for pid in pids)


def own(pids: list[int]) -> int:
    """Of it what is not of files: a load tool shares the gateway's program, so that each start of one changes the rest."""
    return sum(fields(f"/proc/{pid}/smaps_rollup")["Pss_Anon"] for pid in pids)


def available() -> int:
    """Memory that may still be had, in bytes."""
    return fields("/proc/meminfo")["MemAvailable"]


def socket_slabs() -> int | None:
    """Bytes of the kernel's objects for sockets; only root may know."""
    try:
        lines = pathlib.Path("/proc/slabinfo").read_text().splitlines()
    except OSError:
        return None
    rows = (line.split() for line in lines[2:])
    return sum(int(row[1]) * int(row[3]) for row in rows if row and row[0] in SOCKET_SLABS)


def socket_buffers() -> int:
    """Bytes that TCP sockets hold in their queues."""
    for line in pathlib.Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            return int(line.split()[-1]) * PAGE
    return 0


def stop(process: subprocess.Popen) -> None:
    """Ends a process, by force if it takes longer than ten seconds."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def is_taken(port: int) -> bool:
    """Whether something listens there, which would be measured instead of ours."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


class Cluster:
    """Gateways in core mode on one Redis, all fresh."""

    def __init__(self, wsgw: pathlib.Path, out: pathlib.Path, port: int, gateways: int):
        self.wsgw, self.out, self.port, self.count = wsgw, out, port, gateways
        self.redis_port = port
        self.redis_url = f"redis://{HOST}:{port}"
        self.processes: list[subprocess.Popen] = []
        self.logs: list = []
        self.key = secrets.token_hex(16)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_) -> None:
        # The gateways first: they say farewell to Redis.
        for process in reversed(self.processes):
            stop(process)
        for log in self.logs:
            log.close()

    def spawn(self, command: list[str], log: str, env: dict[str, str] | None = None) -> subprocess.Popen:
        handle = open(self.out / log, "wb")
        self.logs.append(handle)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=handle, stderr=handle, env=env, cwd=self.out)
        self.processes.append(process)
        return process

    def start(self, pipeline: pathlib.Path, settings: dict[str, str], overrides: list[str]) -> None:
        for port in range(self.port, self.port + self.count + 1):
            if is_taken(port):
                raise Failed(f"port {port} is taken; choose others with WSGW_CURVES_PORT")
        redis = ["redis-server", "--bind", HOST, "--port", str(self.redis_port), "--save", "", "--appendonly", "no"]
        redis = self.spawn(redis, "redis.log")
        self.await_(redis, "redis-server", "redis.log", lambda: is_taken(self.redis_port))
        for k in range(self.count):
            # Only what is named here reaches it, so that a developer's own settings do not change figures.
            env = {
                "PATH": os.environ.get("PATH", ""),
                "WSGW_LISTEN": f"{HOST}:{self.port + 1 + k}",
                "WS_MODE": "core",
                "REDIS_DSN": self.redis_url,
                # A stream of its own, so that each load tool reads back what went through its gateway and no more.
                "REDIS_INBOX_STREAM": self.inbox(k),
                "JWT_ALG": "RS256",
                "JWT_PUBLIC_KEY_FILE": str(self.out / "keys/public.pem"),
                "GATEWAY_API_KEY": self.key,
                "LOG_LEVEL": "warn",
                "WS_RATE_LIMIT_PER_SEC": "0",
                "BACKPRESSURE_PER_CONN_BUFFER": "512",
                "BACKPRESSURE_GLOBAL_BUFFER": "10000000",
            }
            name = f"gateway-{k}.log"
            command = [str(self.wsgw), "run", str(pipeline)]
            for override in overrides:
                command += ["--set", override]
            gateway = self.spawn(command, name, env | settings)
            self.await_(gateway, f"gateway {k}", name, lambda k=k: self.is_ready(k))

    def await_(self, process: subprocess.Popen, what: str, log: str, ready) -> None:
        end = time.monotonic() + 20
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                tail = "\n".join((self.out / log).read_text(errors="replace").splitlines()[-20:])
                raise Failed(f"{what} does not start:\n{tail}")
            time.sleep(0.05)

    def is_ready(self, k: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port + 1 + k}/ready", timeout=1) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def inbox(self, k: int) -> str:
        return f"ws.inbox.{k}"

    def url(self, k: int) -> str:
        return f"ws://{HOST}:{self.port + 1 + k}/ws"

    @property
    def redis_pids(self) -> list[int]:
        return [self.processes[0].pid]

    @property
    def gateway_pids(self) -> list[int]:
        return [process.pid for process in self.processes[1:]]

    def redis(self, *command: str) -> str:
        """What redis-cli prints."""
        asked = ["redis-cli", "-h", HOST, "-p", str(self.redis_port), *command]
        return subprocess.run(asked, text=True, capture_output=True, check=True, timeout=60).stdout.strip()

    def redis_memory(self) -> int:
        used = [line for line in self.redis("INFO", "memory").splitlines() if line.startswith("used_memory:")]
        return int(used[0].split(":")[1])


class Tools:
    """Load tools in lockstep, one for each gateway."""

    def __init__(self, cluster: Cluster, commands: list[list[str]], patience: float):
        self.patience = patience
        self.words: list[list[str]] = [[] for _ in commands]
        self.news = threading.Condition()
        self.processes = []
        self.threads = []
        self.output = [""] * len(commands)
        for k, command in enumerate(commands):
            command = [str(cluster.wsgw), "bench", *command, "--lockstep", "--json", "--url", cluster.url(k)]
            command += ["--ramp", "0", "--key", str(cluster.out / "keys/private.pem")]
            # By the environment, since other users of the machine can read command lines.
            env = {"PATH": os.environ.get("PATH", ""), "GATEWAY_API_KEY": cluster.key}
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env, cwd=cluster.out)
            self.processes.append(process)
            for target in (self.listen, self.collect):
                thread = threading.Thread(target=target, args=(k, process), daemon=True)
                thread.start()
                self.threads.append(thread)

    def __enter__(self) -> Tools:
        return self

    def __exit__(self, *_) -> None:
        for process in self.processes:
            stop(process)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def listen(self, k: int, process: subprocess.Popen) -> None:
        for line in process.stderr:
            with self.news:
                self.words[k].append(line.strip())
                self.news.notify_all()
        with self.news:
            self.words[k].append("")
            self.news.notify_all()

    def collect(self, k: int, process: subprocess.Popen) -> None:
        self.output[k] = process.stdout.read()

    def expect(self, word: str) -> None:
        """Waits until every tool has said a word."""
        end = time.monotonic() + self.patience
        with self.news:
            while not all(word in words for words in self.words):
                if any("" in words and word not in words for words in self.words):
                    said = [line for words in self.words for line in words if line not in ("ready", "done", "")]
                    raise Failed(f"a load tool ended before it was {word}: {' '.join(said) or 'it said nothing'}")
                if not self.news.wait(end - time.monotonic()):
                    raise Failed(f"the load tools were not {word} within {self.patience:.0f} s")

    def go(self) -> None:
        """Has every tool go on."""
        for process in self.processes:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write("\n")
                process.stdin.flush()

    def results(self) -> list[dict]:
        """What each tool found out, once it has ended."""
        for process in self.processes:
            process.wait(self.patience)
        for thread in self.threads:
            thread.join(10)
        found = []
        for k, output in enumerate(self.output):
            try:
                result = json.loads(output)
            except ValueError:
                said = [line for line in self.words[k] if line not in ("ready", "done", "")]
                raise Failed(f"a load tool gave no result: {' '.join(said)}") from None
            result["exit"] = self.processes[k].returncode
            found.append(result)
        return found
