"""One run: starts the servers, puts the load on, restarts and reloads, and looks at what is left."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pathlib
import random
import secrets
import signal
import subprocess
import time
from collections import Counter
from typing import Callable, Coroutine

from .backend import DEAD, Pusher, Reader, passed, patiently
from .clients import USERS, Client, Tokens, bad_http, bad_token, flood, stay, talk_nonsense, visit
from .files import pipeline_files
from .ledger import Ledger
from .servers import Gateway, Redis, RedisLink

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

STAYING = 30
VISITORS_A_SECOND = 8.0
VISITORS_AT_ONCE = 400
# Of each way; half of them go to everyone.
PUSH_EVERY_SECONDS = 0.15
RELOADS_TO_ONE_INVALID = 6
DOWN_SECONDS = (0.5, 3.0)
QUIET_SECONDS = 60
EXPECTED_ERRORS = {"config_error", "reload_failed"}


@dataclasses.dataclass(frozen=True)
class Options:
    """What was asked for."""

    seconds: float
    out: pathlib.Path
    binary: pathlib.Path
    seed: int

    def every(self, seconds: float, times: int) -> float:
        """An interval of so many seconds; shorter where the run would not see it so often."""
        return max(1.0, min(seconds, self.seconds / times))


@dataclasses.dataclass
class Mark:
    """Something that happened to the run, for the picture."""

    seconds: float
    kind: str


class Run:
    """The state of a run."""

    def __init__(self, options: Options, tell: Callable[[str], None]) -> None:
        self.options, self._tell = options, tell
        self.ledger = Ledger()
        self.samples: list[dict[str, float]] = []
        self.marks: list[Mark] = []
        self.log_events: Counter = Counter()
        self.interrupted = False
        self._chance = random.Random(options.seed)
        self._redis = Redis(options.out / "redis")
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task] = set()
        self._visitors: set[asyncio.Task] = set()
        # What the gateway has in use before the first client.
        self.before: dict[str, float] = {}
        self._begun = 0.0
        self._loaded = False
        self._steady_after = 0.0
        self._aftermath = min(10.0, options.every(90, 3) / 4)
        self._valid, self._invalid = pipeline_files((ROOT / "pipelines/core.yaml").read_text())
        keys = options.out / "keys"
        if not (keys / "private.pem").exists():
            subprocess.run([ROOT / "scripts/gen_dev_keys.sh", keys], check=True, stdout=subprocess.DEVNULL)
        self._tokens = Tokens(keys / "private.pem")
        self._gateway = Gateway(
            options.binary, options.out,
            {"REDIS_DSN": self._redis.dsn, "JWT_PUBLIC_KEY_FILE": str(keys / "public.pem")}, secrets.token_hex(16),
        )
        self._staying = [Client(self.ledger, self._gateway.port, self._tokens, f"stays{n}", True) for n in range(STAYING)]
        self._pusher = Pusher(self.ledger, self._redis, self._gateway, [client.user for client in self._staying])

    async def run(self) -> None:
        """The whole of it. Raises Failure when it cannot even begin."""
        from websockets.exceptions import WebSocketException

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt)
        try:
            await self._redis.start()
            self._gateway.write(self._valid[0])
            await self._gateway.start()
            self.before = self._gateway.usage()
            self._begun = time.monotonic()
            sampler = self._begin(self._sample())
            await self._load()
            await self._settle()
            # What is left, in the curves too.
            await asyncio.sleep(min(10, self.options.seconds / 10))
            sampler.cancel()
            await self._look_at_what_is_left()
            code = await self._gateway.stop()
            if code:
                self.ledger.fault("the gateway's end", f"exit code {code}")
            self._read_log()
        except (OSError, WebSocketException) as error:
            self.ledger.fault("the run broke off", repr(error))
        finally:
            for task in [*self._tasks, *self._visitors]:
                task.cancel()
            self._gateway.kill()
            self._redis.kill()

    @property
    def gateway_log(self) -> pathlib.Path:
        """Where the gateway's log is."""
        return self._gateway.log

    def _interrupt(self) -> None:
        self.interrupted = True
        self._stop.set()

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._begun

    def _begin(self, work: Coroutine, into: set[asyncio.Task] | None = None) -> asyncio.Task:
        into = self._tasks if into is None else into
        task = asyncio.create_task(work)
        into.add(task)

        def done(task: asyncio.Task) -> None:
            into.discard(task)
            if not task.cancelled() and (error := task.exception()):
                self.ledger.fault("a client failed", f"{task.get_coro().__qualname__}: {error!r}")

        task.add_done_callback(done)
        return task

    async def _load(self) -> None:
        """Everything at once, for the time that was asked for."""
        options, chance = self.options, self._chance
        for client in self._staying:
            await client.connect()
            # Admitted, so that no push to it comes too early.
            await client.round_trip()
        reader = self._begin(Reader(self.ledger, self._redis).run())
        self._reader = reader
        staying = [self._begin(stay(client, self._stop, chance)) for client in self._staying]
        loads = [
            self._begin(self._pusher.by_redis(self._stop, PUSH_EVERY_SECONDS, chance)),
            self._begin(self._pusher.by_http(self._stop, PUSH_EVERY_SECONDS, chance)),
            self._begin(self._come_and_go()),
            self._begin(self._reload()),
            self._begin(self._restart()),
            self._begin(self._trouble(options.every(1, 20), self._bad)),
            self._begin(self._trouble(options.every(10, 4), lambda: flood(self._client("floods")))),
            self._begin(self._trouble(options.every(5, 6), self._disconnected)),
            self._begin(self._trouble(
                options.every(20, 4),
                lambda: self._pusher.close_slow_reader(self._gateway.port, self._tokens, self._gateway),
            )),
        ]
        self._loaded = True
        watch = self._begin(self._watch())
        await passed(self._stop, options.seconds)
        self._loaded = False
        self._stop.set()
        await asyncio.gather(*loads, return_exceptions=True)
        while self._visitors:
            await asyncio.wait(self._visitors)
        await asyncio.gather(*staying, return_exceptions=True)
        await self._hear_the_last_pushes()
        watch.cancel()

    def _client(self, user: str) -> Client:
        return Client(self.ledger, self._gateway.port, self._tokens, user)

    async def _come_and_go(self) -> None:
        while not await passed(self._stop, self._chance.expovariate(VISITORS_A_SECOND)):
            if len(self._visitors) < VISITORS_AT_ONCE:
                user = f"visits{self._chance.randrange(USERS)}"
                self._begin(visit(self._client(user), self._chance), self._visitors)

    async def _trouble(self, every: float, make: Callable[[], Coroutine]) -> None:
        while not await passed(self._stop, self._chance.uniform(0.5, 1.5) * every):
            self._begin(make(), self._visitors)

    async def _bad(self) -> None:
        port = self._gateway.port
        match self._chance.choice(["token", "http", "nonsense"]):
            case "token":
                await bad_token(self.ledger, port, self._tokens, self._chance)
            case "http":
                api = self._gateway.api()
                await bad_http(self.ledger, port, api, self._chance)
                api.close()
            case _:
                await talk_nonsense(self._client("nonsense"), self._chance)

    async def _disconnected(self) -> None:
        """A client that the backend disconnects."""
        from websockets.exceptions import ConnectionClosed

        client = self._client(f"unwanted{self.ledger.new_id()}")
        await client.connect()
        await client.round_trip()
        api = self._gateway.api()
        await self._pusher.disconnect(api, client.user)
        api.close()
        try:
            await client.listen(60)
            self.ledger.fault("disconnect", "did not end the connection")
        except ConnectionClosed:
            if client.socket.close_code != 4403:
                self.ledger.fault("disconnect", f"closed by {client.socket.close_code}")
        self.ledger.counts["disconnected by the backend"] += 1

    async def _reload(self) -> None:
        """Puts the files in place by turns; waits for each to be in force, or refused."""
        number = 0
        while not await passed(self._stop, self.options.every(5, 10)):
            # A new connection each time: the gateway ends one that is idle for as long.
            api = self._gateway.api()
            number += 1
            invalid = number % RELOADS_TO_ONE_INVALID == 0
            turn = number // RELOADS_TO_ONE_INVALID if invalid else number
            files = self._invalid if invalid else self._valid
            result = "failure" if invalid else "success"
            series = f'wsgw_config_reloads_total{{result="{result}"}}'
            before = await api.metrics()
            self._gateway.write(files[turn % len(files)])
            self._gateway.reload()
            give_up = time.monotonic() + 60
            while (after := await api.metrics())[series] == before[series] and time.monotonic() < give_up:
                await asyncio.sleep(0.02)
            hashes = [{name for name in metrics if name.startswith("wsgw_config_info")} for metrics in (before, after)]
            if after[series] != before[series] + 1 or (invalid and hashes[0] != hashes[1]):
                self.ledger.fault("reload", f"number {number} was no {result}")
            self.ledger.counts["invalid files refused" if invalid else "reloads"] += 1
            self.marks.append(Mark(self.now(), "invalid" if invalid else "reload"))
            api.close()

    async def _restart(self) -> None:
        """Ends Redis, by turns politely and by force, and starts it again."""
        number = 0
        while not await passed(self._stop, self.options.every(90, 3)):
            how = (signal.SIGTERM, signal.SIGKILL)[number % 2]
            number += 1
            self._steady_after = float("inf")
            self.marks.append(Mark(self.now(), how.name))
            self.ledger.down()
            await self._redis.stop(how)
            await asyncio.sleep(self._chance.uniform(*DOWN_SECONDS))
            await self._redis.start()
            self.ledger.up()
            self._steady_after = self.now() + self._aftermath
            self.ledger.counts[f"restarts of Redis by {how.name}"] += 1

    async def _watch(self) -> None:
        """Ends the load when the gateway is gone: nothing else would."""
        while self._gateway.running():
            await asyncio.sleep(0.5)
        self.ledger.fault("the gateway", "is gone")
        self._stop.set()

    async def _sample(self) -> None:
        api = self._gateway.api()
        told = 0.0
        while True:
            await asyncio.sleep(1 - self.now() % 1)
            try:
                metrics = await api.metrics()
                usage = self._gateway.usage()
            except OSError as error:
                if self._gateway.running():
                    self.ledger.fault("sampling", repr(error))
                continue
            sample = usage | {
                "seconds": self.now(),
                "steady": int(self._loaded and self.now() >= self._steady_after),
                "connections": metrics["ws_connections"],
                "pending_events": sum(v for k, v in metrics.items() if k.startswith("wsgw_sink_buffer_events{")),
                "waiting_pushes": metrics["wsgw_outbox_waiting"],
                "generations": metrics["wsgw_config_generations"],
            }
            self.samples.append(sample)
            every = 1 if os.isatty(2) else 60
            if self.now() - told >= every:
                told = self.now()
                self._tell(self.progress(sample))

    def progress(self, sample: dict[str, float]) -> str:
        """How it goes, in a line."""
        counts = self.ledger.counts
        return (
            f"{self.now() / 60:.1f} of {self.options.seconds / 60:g} min  {sample['pss_kib'] / 1024:.1f} MiB  "
            f"{sample['connections']:.0f} open of {counts['connections opened']:,}  {counts['messages read']:,} messages  "
            f"{counts['pushes received']:,} pushes  {counts['reloads']} reloads  {len(self.ledger.outages)} restarts  "
            f"{sum(n for kind, n in counts.items() if kind.startswith('fault'))} faults"
        )

    async def _hear_the_last_pushes(self) -> None:
        """Those who stay get what was pushed last, and leave."""
        async def last(client: Client) -> None:
            def all_came() -> bool:
                return all(
                    client.pushes.next.get(sequence, 1) == made + 1
                    for sequence, made in self._pusher.made.items()
                    if sequence.endswith((" everyone", f" {client.user}"))
                )

            give_up = time.monotonic() + 30
            while not all_came() and time.monotonic() < give_up:
                await client.listen(0.2)
            if not all_came():
                self.ledger.fault("pushes lost", f"{client.user} lacks the last of {client.pushes.next}")
            await client.close()

        results = await asyncio.gather(*map(last, self._staying), return_exceptions=True)
        for client, result in zip(self._staying, results):
            if result:
                self.ledger.fault("a staying client was closed", f"{client.user}: {result!r}")

    async def _settle(self) -> None:
        """Waits until nothing is left over; what is, after a minute, is a fault."""
        api = self._gateway.api()
        give_up = time.monotonic() + QUIET_SECONDS
        while self._gateway.running():
            metrics, usage = await api.metrics(), self._gateway.usage()
            left = {
                "connections": metrics["ws_connections"],
                "events that wait": sum(v for k, v in metrics.items() if k.startswith("wsgw_sink_buffer_events{")),
                "pushes that wait": metrics["wsgw_outbox_waiting"],
                "old configurations": metrics["wsgw_config_generations"] - 1,
                # This connection and that of the samples are two more.
                "descriptors": max(0, usage["fds"] - self.before["fds"] - 2),
                # Two of the pool for files, which come and go, may be.
                "threads": max(0, usage["threads"] - self.before["threads"] - 2),
                "events not read": len(self.ledger.connections) + len(self.ledger.missing()),
                "connections without their end": metrics["ws_connections_total"] - metrics["ws_disconnects_total"],
            }
            if not any(left.values()):
                break
            if time.monotonic() > give_up:
                for what, count in left.items():
                    if count:
                        self.ledger.fault("left over", f"{what}: {count:g}")
                break
            await asyncio.sleep(0.25)
        api.close()

    async def _look_at_what_is_left(self) -> None:
        ledger = self.ledger
        if not self._gateway.running():
            return
        api, link = self._gateway.api(), RedisLink(self._redis.port)
        status, text = await api.call("GET", "/ready")
        if status != 200:
            ledger.fault("not ready at the end", text.decode()[:200])
        metrics = await api.metrics()
        for message in ledger.missing():
            ledger.fault("messages lost", message)
        for key, connection in ledger.connections.items():
            ledger.fault("a connection's events are incomplete", f"{key}: {connection}")
        if ledger.counts["connected"] != metrics["ws_connections_total"]:
            ledger.fault("connections", f"{metrics['ws_connections_total']:g} admitted, {ledger.counts['connected']} told of")
        if ledger.counts["binary read"] != ledger.counts["binary sent"]:
            ledger.fault("binary messages", f"{ledger.counts['binary read']} of {ledger.counts['binary sent']} came")
        letters = await patiently(link, "XLEN", DEAD)
        if self._gateway.dead_letters.exists():
            letters += len(self._gateway.dead_letters.read_text().splitlines())
        if letters != ledger.counts["pushes that are none"]:
            ledger.fault("dead letters", f"{letters}, of {ledger.counts['pushes that are none']} pushes that are none")
        give_up = time.monotonic() + 30
        while left := await patiently(link, "KEYS", "presence:*"):
            if time.monotonic() > give_up:
                ledger.fault("presence left over", f"{len(left)} keys, such as {left[0].decode()}")
                break
            await asyncio.sleep(0.5)
        api.close()
        link.close()

    def _read_log(self) -> None:
        for line in self._gateway.log_lines():
            event, level = line.get("event", ""), line["level"]
            self.log_events[event or level] += 1
            if level in ("ERROR", "RAW") and event not in EXPECTED_ERRORS:
                self.ledger.fault("the gateway's log", str(line)[:300])
