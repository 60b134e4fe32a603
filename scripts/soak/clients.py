"""The clients: those that stay, those that come and go, those that do not read, and those that mean ill."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import pathlib
import random
import socket
import struct
import time

from .ledger import Ledger, Sequences
from .servers import HOST

# Everyone but slow readers listens to it.
EVERYONE = "soak:everyone"
USERS = 100
LARGE_BYTES = 60 * 1024
# While a broker is away acknowledgements are late, so that only a long silence is a fault.
ANSWER_SECONDS = 60
TOKEN_SECONDS = 7 * 86400


class Tokens:
    """Tokens of the run's users, each signed once."""

    def __init__(self, private_key: pathlib.Path) -> None:
        self._key = private_key.read_bytes()
        self._known: dict[tuple, str] = {}

    def of(self, user: str, subjects: tuple[str, ...] = (EVERYONE,), seconds: int = TOKEN_SECONDS) -> str:
        """A token of the user, who listens to these subjects beside its own."""
        import jwt

        if (user, subjects, seconds) not in self._known:
            claims = {"user_id": user, "subjects": list(subjects), "exp": int(time.time()) + seconds}
            self._known[user, subjects, seconds] = jwt.encode(claims, self._key, "RS256")
        return self._known[user, subjects, seconds]


class Client:
    """A client that reads whatever comes, and keeps the books of it."""

    def __init__(self, ledger: Ledger, port: int, tokens: Tokens, user: str, stays: bool = False) -> None:
        self.ledger, self.user = ledger, user
        self._port, self._tokens = port, tokens
        self.pushes = Sequences(ledger, user, stays)
        # Ids without their answers yet, oldest first.
        self.waiting: dict[str, None] = {}
        self._answers = 0
        self.socket = None

    async def connect(self) -> None:
        """Opens the connection."""
        from websockets.asyncio.client import connect

        self.socket = await connect(
            f"ws://{HOST}:{self._port}/ws",
            additional_headers={"Authorization": f"Bearer {self._tokens.of(self.user)}"},
            compression=None, ping_interval=None, max_size=None, open_timeout=30,
        )
        self.ledger.counts["connections opened"] += 1

    async def send(self, size: int = 40, again: bool = False) -> str:
        """Sends a message with an id; `again` sends it twice, of which one is to be published."""
        message = self.ledger.new_id()
        text = json.dumps({"type": "chat", "id": message, "payload": "x" * size})
        self.ledger.sent(message)
        self.waiting[message] = None
        for _ in range(1 + again):
            await self.socket.send(text)
        return message

    async def listen(self, seconds: float) -> None:
        """Reads what comes in that time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    self._got(json.loads(await self.socket.recv()))

    async def answered(self) -> None:
        """Reads until everything that was sent has its answer."""
        if not self.waiting:
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while self.waiting:
                    self._got(json.loads(await self.socket.recv()))
        except TimeoutError:
            self.ledger.fault("not acknowledged", f"{self.user}: {len(self.waiting)} messages in {ANSWER_SECONDS} s")

    async def round_trip(self) -> None:
        """Sends a message of its own that is answered at once, and waits for that: all before it is taken then."""
        before = self._answers
        await self.socket.send('{"type":"ping"}')
        async with asyncio.timeout(ANSWER_SECONDS):
            while self._answers == before:
                self._got(json.loads(await self.socket.recv()))

    async def renew(self) -> None:
        """Sends a fresh token."""
        await self.socket.send(json.dumps({"type": "auth", "token": self._tokens.of(self.user)}))
        self.ledger.counts["tokens renewed"] += 1

    def _got(self, message: dict) -> None:
        kind = message["type"]
        if kind == "event":
            payload = message["payload"]
            if "sequence" in payload:
                self.pushes.got(payload)
        elif kind == "ack":
            self.waiting.pop(message["id"], None)
            self.ledger.taken(message["id"])
        elif kind == "nack" and message["reason"] == "rate_limited":
            self.waiting.pop(message["id"], None)
            self.ledger.refused(message["id"])
        elif kind == "pong":
            self._answers += 1
        elif kind != "auth_ok":
            self.ledger.fault("unexpected answer", f"{self.user}: {json.dumps(message)[:200]}")

    async def close(self) -> None:
        """Leaves as one should."""
        await self.socket.close()

    def vanish(self) -> None:
        """Leaves without a word: the socket is closed, without a close frame."""
        self.socket.transport.abort()

    def reset(self) -> None:
        """Leaves by a TCP reset, which may overtake what was sent."""
        linger = struct.pack("ii", 1, 0)
        self.socket.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.transport.abort()


async def stay(client: Client, stop: asyncio.Event, chance: random.Random) -> None:
    """Is there from the beginning to the end: sends now and then, and counts its pushes."""
    from websockets.exceptions import ConnectionClosed

    try:
        while not stop.is_set():
            await client.listen(chance.uniform(1, 4))
            await client.send()
            if chance.random() < 0.02:
                await client.renew()
        await client.answered()
    except ConnectionClosed as closed:
        client.ledger.fault("a staying client was closed", f"{client.user}: {closed}")


async def visit(client: Client, chance: random.Random) -> None:
    """Comes, sends, listens for a while, and goes in one of the ways in which clients go."""
    from websockets.exceptions import ConnectionClosed, InvalidHandshake

    try:
        await client.connect()
    except (OSError, TimeoutError, InvalidHandshake) as error:
        client.ledger.fault("a visitor could not connect", f"{type(error).__name__}: {error}")
        return
    leaving = "before its time"
    try:
        for _ in range(chance.randrange(1, 7)):
            large = chance.random() < 0.03
            await client.send(LARGE_BYTES if large else chance.randrange(1000), again=chance.random() < 0.1)
            client.ledger.counts["large messages"] += large
            await client.listen(chance.uniform(0, 1.2))
        leaving = chance.choices(["close", "reset", "vanish", "in flight"], [5, 2, 2, 2])[0]
        if leaving == "in flight":
            # The answer to these is not waited for, so that they may be lost with the connection.
            await client.send()
            await client.send(again=True)
        else:
            await client.answered()
        match leaving:
            case "close":
                await client.close()
            case "vanish":
                client.vanish()
            case _:
                client.reset()
        client.ledger.counts[f"left by {leaving}"] += 1
    except (ConnectionClosed, TimeoutError) as closed:
        client.ledger.fault("a visitor was closed", f"{client.user}, {leaving}: {closed!r}")


async def flood(client: Client) -> None:
    """Sends faster than it may: what is refused is told, and the rest arrives."""
    await client.connect()
    for _ in range(60):
        await client.send()
    await client.answered()
    await client.close()
    client.ledger.counts["floods"] += 1


async def talk_nonsense(client: Client, chance: random.Random) -> None:
    """Sends what is no JSON, what is binary, and then what no client may."""
    from websockets.exceptions import ConnectionClosed

    await client.connect()
    ledger = client.ledger
    message = ledger.new_id()
    ledger.sent(message)
    await client.socket.send(f'{{"type": no JSON {message}')
    await client.socket.send(os.urandom(32))
    ledger.counts["binary sent"] += 1
    await client.round_trip()
    ledger.taken(message)
    text, expected = chance.choice([
        (frame(0x81, b"\xff\xfe no UTF-8"), 1007),
        (frame(0x83, b"a reserved opcode"), 1002),
        (b"\x81\x02ok", 1002),  # not masked
        (frame(0x81, b"x" * 70_000), 1009),
    ])
    client.socket.transport.write(text)
    try:
        await client.listen(ANSWER_SECONDS)
    except ConnectionClosed as closed:
        code = closed.rcvd.code if closed.rcvd else 1006
        # A reset may overtake the close frame, where the gateway had not read all.
        if code not in (expected, 1006):
            ledger.fault("wrong close code", f"{code} instead of {expected}")
    else:
        ledger.fault("not closed", f"{expected} was expected")
    ledger.counts["protocol violations"] += 1


def frame(first: int, payload: bytes) -> bytes:
    """A masked frame, by a mask of zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xff" + struct.pack(">Q", size)
    return bytes([first]) + length + b"\0\0\0\0" + payload


async def bad_token(ledger: Ledger, port: int, tokens: Tokens, chance: random.Random) -> None:
    """Comes with a token that is none, and is closed with 4401."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed

    good = tokens.of("mallory")
    token = chance.choice([
        tokens.of("mallory", seconds=-60), good[:-8] + "AAAAAAAA", "garbage", "a.b.c", good.rpartition(".")[0] + ".", "",
    ])
    socket_ = await connect(
        f"ws://{HOST}:{port}/ws", additional_headers={"Authorization": f"Bearer {token}"} if token else {},
        compression=None, ping_interval=None, open_timeout=30,
    )
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await socket_.recv()
        ledger.fault("bad token", "was not refused")
    except (ConnectionClosed, TimeoutError):
        if socket_.close_code != 4401:
            ledger.fault("bad token", f"was closed by {socket_.close_code}")
    ledger.counts["bad tokens"] += 1


async def bad_http(ledger: Ledger, port: int, api, chance: random.Random) -> None:
    """Breaks off an upgrade, speaks no HTTP, or calls without the key."""
    ledger.counts["bad requests"] += 1
    if chance.random() < 0.4:
        status, _ = await api.call("POST", "/internal/publish", b"{}", key="wrong")
        if status not in (401, 403):
            ledger.fault("a call without the key", f"was answered {status}")
        return
    text = chance.choice([b"GET /ws HTTP/1.1\r\nHost: soak\r\nUpgra", b"\x16\x03\x01 no HTTP\r\n\r\n", b""])
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(text)
    with contextlib.suppress(OSError, TimeoutError):
        await writer.drain()
        # Some wait until the gateway has enough of them, which it has after a while.
        async with asyncio.timeout(chance.choice([0.1, 15])):
            await reader.read()
    writer.close()


class SlowReader:
    """A client that connects and does not read, through a socket that holds little."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.setblocking(False)

    async def connect(self) -> None:
        """Opens the connection, and reads nothing but the answer to the upgrade."""
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, (HOST, self._port))
        key = base64.b64encode(os.urandom(16)).decode()
        await loop.sock_sendall(
            self._socket,
            f"GET /ws HTTP/1.1\r\nHost: soak\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nAuthorization: Bearer {self._token}\r\n\r\n".encode(),
        )
        answer = b""
        async with asyncio.timeout(30):
            while b"\r\n\r\n" not in answer:
                more = await loop.sock_recv(self._socket, 1024)
                if not more:
                    raise ConnectionError("the upgrade was not answered")
                answer += more

    async def read_on(self) -> None:
        """Reads at last, until the gateway's end of the connection."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                with contextlib.suppress(OSError):
                    while await loop.sock_recv(self._socket, 1 << 16):
                        pass
        finally:
            self._socket.close()
