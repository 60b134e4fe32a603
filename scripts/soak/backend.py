"""The backend's part: reads the events, pushes by Redis and by HTTP, and looks at who is online."""

from __future__ import annotations

import asyncio
import json
import random

from .clients import EVERYONE, SlowReader, Tokens
from .ledger import Ledger
from .servers import Api, Gateway, Redis, RedisError, RedisLink

EVENTS, INBOX, OUTBOX, DEAD = "ws.events", "ws.inbox", "ws.outbox", "ws.dlq"
# What it takes at most to fill the outbox of one that does not read, and the kernel's buffers before it.
SLOW_PUSHES = 6000


async def patiently(link: RedisLink, *words: str | bytes | int):
    """A command that may be repeated, until Redis is there."""
    while True:
        try:
            return await link.command(*words)
        except OSError:
            await asyncio.sleep(0.1)
        except RedisError as error:
            # It reads its data after a restart.
            if not str(error).startswith("LOADING"):
                raise
            await asyncio.sleep(0.1)


class Reader:
    """Reads both streams of events, as a worker does, and deletes what it has read."""

    def __init__(self, ledger: Ledger, redis: Redis) -> None:
        self._ledger, self._redis = ledger, redis
        self._read = {EVENTS: b"0-0", INBOX: b"0-0"}

    async def run(self) -> None:
        """Reads until it is cancelled."""
        link = RedisLink(self._redis.port)
        try:
            while True:
                await self._batch(link)
        finally:
            link.close()

    async def _batch(self, link: RedisLink) -> None:
        read = self._read
        for stream, entries in await patiently(
            link, "XREAD", "COUNT", 200, "BLOCK", 500, "STREAMS", *read, *read.values()
        ) or []:
            name = stream.decode()
            for entry, fields in entries:
                self._ledger.arrived(int(entry.partition(b"-")[0]), json.loads(fields[1]))
                read[name] = entry
            await patiently(link, "XTRIM", name, "MINID", "=", next_id(read[name]))


def next_id(entry: bytes) -> bytes:
    """The id after this one."""
    ms, _, number = entry.partition(b"-")
    return b"%s-%d" % (ms, int(number) + 1)


class Pusher:
    """Pushes to everyone and to single users, numbered so that each client sees what it missed."""

    def __init__(self, ledger: Ledger, redis: Redis, gateway: Gateway, users: list[str]) -> None:
        self._ledger, self._redis, self._api, self._users = ledger, redis, gateway.api(), users
        # How many were made of each sequence.
        self.made: dict[str, int] = {}

    def _next(self, way: str, to: str) -> tuple[str, dict]:
        sequence = f"{way} to {to}"
        number = self.made.get(sequence, 0) + 1
        subject = EVERYONE if to == "everyone" else f"user:{to}"
        return sequence, {"subjects": [subject], "payload": {"sequence": sequence, "n": number, "text": "hello" * 20}}

    async def by_redis(self, stop: asyncio.Event, every: float, chance: random.Random) -> None:
        """Adds to the stream until told to stop; now and then what is no push."""
        link = RedisLink(self._redis.port)
        last = b"0-0"
        while not await passed(stop, chance.uniform(0.5, 1.5) * every):
            sequence, push = self._next("redis", chance.choice(["everyone", chance.choice(self._users)]))
            last = await add(link, json.dumps(push), last)
            self.made[sequence] = push["payload"]["n"]
            self._ledger.counts["pushes by Redis"] += 1
            if self._ledger.counts["pushes by Redis"] % 100 == 1:
                last = await add(link, f'{{"subjects":[],"payload":{self._ledger.new_id()[1:]}}}', last)
                self._ledger.counts["pushes that are none"] += 1
        link.close()

    async def by_http(self, stop: asyncio.Event, every: float, chance: random.Random) -> None:
        """Calls the API until told to stop, and now and then asks it who is online."""
        while not await passed(stop, chance.uniform(0.5, 1.5) * every):
            sequence, push = self._next("http", chance.choice(["everyone", chance.choice(self._users)]))
            status, answer = await self._api.call("POST", "/internal/publish", json.dumps(push).encode())
            if status != 200 or json.loads(answer)["sent"] < 1:
                self._ledger.fault("a push was not taken", f"{status} {answer[:200]!r}")
            else:
                self.made[sequence] = push["payload"]["n"]
            self._ledger.counts["pushes by HTTP"] += 1
            if chance.random() < 0.05:
                # Without Redis, which answers it, 503 is right.
                path = chance.choice(["/internal/connections?limit=10", f"/internal/users/{self._users[0]}/connections"])
                status, _ = await self._api.call("GET", path)
                if status not in (200, 503):
                    self._ledger.fault("presence", f"was answered {status}")
                self._ledger.counts["lists of who is online"] += 1
        self._api.close()

    async def close_slow_reader(self, port: int, tokens: Tokens, gateway: Gateway) -> None:
        """Pushes to one that does not read until the gateway has closed it."""
        user = f"slow{self._ledger.new_id()}"
        reader = SlowReader(port, tokens.of(user, ()))
        await reader.connect()
        api = gateway.api()
        push = json.dumps({"subjects": [f"user:{user}"], "payload": "y" * 1000}).encode()
        # The upgrade is answered before the token was looked at, so that the first may come too early.
        begun, sent = False, 0
        for _ in range(SLOW_PUSHES):
            _, answer = await api.call("POST", "/internal/publish", push)
            sent = json.loads(answer)["sent"]
            if begun and not sent:
                break
            begun = begun or bool(sent)
        else:
            self._ledger.fault("a slow reader", "was not closed")
        api.close()
        await reader.read_on()
        self._ledger.counts["slow readers"] += 1

    async def disconnect(self, api: Api, user: str) -> None:
        """Ends the connections of a user, if it has any."""
        status, _ = await api.call("POST", "/internal/disconnect", json.dumps({"user_id": user}).encode())
        if status != 200:
            self._ledger.fault("disconnect", f"was answered {status}")


async def add(link: RedisLink, text: str, last: bytes) -> bytes:
    """Adds a push once, whatever becomes of the connection; `last` is the entry that was added before."""
    while True:
        try:
            return await link.command("XADD", OUTBOX, "MAXLEN", "~", 10_000, "*", "data", text)
        except (OSError, RedisError):
            # It may have been added all the same.
            newest = await patiently(link, "XREVRANGE", OUTBOX, "+", "-", "COUNT", 1)
            if newest and newest[0][0] != last and newest[0][1][1].decode() == text:
                return newest[0][0]


async def passed(stop: asyncio.Event, seconds: float) -> bool:
    """Waits; true at once when told to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
