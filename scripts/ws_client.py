#!/usr/bin/env python3
"""Connects to the gateway, sends one message if asked to, and prints what comes back.

Settings come from the environment:

  JWT_PRIVATE_KEY_FILE  PEM file that signs the token (RS256); see scripts/gen_dev_keys.sh
  JWT_USER_ID           user to connect as (default 42)
  JWT_USER_ID_CLAIM     claim that carries the user (default user_id)
  WS_TOKEN              a ready token; no key file is needed then
  WS_URL                where to connect (default ws://localhost:8000/ws)
  WS_SEND_MESSAGE       text to send, as it is
  WS_MESSAGE_JSON       JSON document to send, as it is; wins over WS_SEND_MESSAGE
  WS_RECEIVE_SECONDS    how long to listen (default 0: until the socket closes or Ctrl-C)

Received messages go to standard output, one a line; everything else goes to standard error.

A gateway that stops says when to come back; the client waits for that long, connects again (a
few times, should that fail) and listens on. What it sent is not sent again.

Exit status: 0 after a clean close, 1 when the connection failed or was refused (a close
code such as 4401), with a message that says why.

Example:

  JWT_PRIVATE_KEY_FILE=keys/private.pem \\
  WS_MESSAGE_JSON='{"type":"chat","payload":"hello world"}' python3 scripts/ws_client.py
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import sys
import time
from dataclasses import dataclass
from typing import Mapping

DEFAULT_URL = "ws://localhost:8000/ws"
TOKEN_LIFETIME_SECONDS = 3600
OPEN_TIMEOUT_SECONDS = 10

# After the time that the gateway named. Each further wait is twice as long, and half of it random.
RECONNECT_TRIES = 5
RECONNECT_WAIT_SECONDS = 1.0

# Normal closure, the server going away, and a close without a code. All others say that
# something went wrong.
CLEAN_CLOSE_CODES = frozenset({1000, 1001, 1005})

CLOSE_HINTS = {
    1006: "the connection was lost",
    1009: "the message is too big for the gateway",
    1013: "the gateway is overloaded, try again later",
    4401: "the gateway does not accept the token; does its public key belong to this private key?",
    4403: "the backend disconnected this client",
    4408: "this client reads too slowly",
}


class Failure(Exception):
    """Something the user can act on; its text is all that is shown."""


@dataclass(frozen=True)
class Settings:
    """What the environment asks for, checked."""

    url: str
    token: str
    message: str | None
    receive_seconds: float

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> "Settings":
        """Reads and checks every setting, so that nothing fails half-way for a typing error."""
        return cls(
            url=env.get("WS_URL") or DEFAULT_URL,
            message=message_to_send(env),
            receive_seconds=receive_seconds(env.get("WS_RECEIVE_SECONDS") or "0"),
            token=env.get("WS_TOKEN") or sign_token(env),
        )


def message_to_send(env: Mapping[str, str]) -> str | None:
    """Returns the text to send, or None to only listen."""
    document = env.get("WS_MESSAGE_JSON")
    if not document:
        return env.get("WS_SEND_MESSAGE") or None
    try:
        json.loads(document)
    except ValueError as error:
        raise Failure(f"WS_MESSAGE_JSON is not valid JSON: {error}") from None
    return document


def receive_seconds(text: str) -> float:
    """Parses WS_RECEIVE_SECONDS."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise Failure(f"WS_RECEIVE_SECONDS must be a number of seconds, not {text!r}")
    return seconds


def sign_token(env: Mapping[str, str]) -> str:
    """Signs a short-lived token for JWT_USER_ID with the private key file."""
    import jwt

    path = env.get("JWT_PRIVATE_KEY_FILE")
    if not path:
        raise Failure(
            "set JWT_PRIVATE_KEY_FILE (scripts/gen_dev_keys.sh makes a key) or WS_TOKEN"
        )
    try:
        with open(path, "rb") as file:
            key = file.read()
    except OSError as error:
        raise Failure(f"cannot read the key file {path}: {error.strerror}") from None
    now = int(time.time())
    claims = {
        env.get("JWT_USER_ID_CLAIM") or "user_id": env.get("JWT_USER_ID") or "42",
        "iat": now,
        "exp": now + TOKEN_LIFETIME_SECONDS,
    }
    try:
        return jwt.encode(claims, key, algorithm="RS256")
    except (jwt.PyJWTError, ValueError, TypeError):
        # The library's own text can quote the file, which may hold a key.
        raise Failure(
            f"{path} is not an unencrypted RSA private key in PEM form"
        ) from None


async def converse(settings: Settings) -> None:
    """Connects, sends, prints until the end. Raises Failure unless all went well."""
    from websockets.asyncio.client import connect

    websocket = await open_connection(connect, settings)
    note(f"connected to {settings.url}")
    try:
        async with asyncio.timeout(settings.receive_seconds or None):
            if settings.message is not None:
                await send(websocket, settings.message)
            while (after_ms := await listen(websocket)) is not None:
                note(f"the gateway stops; reconnecting in {after_ms} ms")
                await asyncio.sleep(after_ms / 1000)
                websocket = await reconnect(connect, settings)
    except TimeoutError:
        await websocket.close()
    except asyncio.CancelledError:
        # Ctrl-C is the usual way to end; the gateway still gets a proper close.
        await websocket.close()
    report_close(websocket.close_code, websocket.close_reason)


async def send(websocket, message: str) -> None:
    """Sends, unless the gateway has closed already: `listen` finds out why."""
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        await websocket.send(message)


async def listen(websocket) -> int | None:
    """Prints until the end. Returns when to reconnect, in milliseconds, if the gateway said so."""
    from websockets.exceptions import ConnectionClosed

    after_ms = None
    try:
        while True:
            message = await websocket.recv()
            show(message)
            after_ms = reconnect_hint(message)
    except ConnectionClosed:
        return after_ms if websocket.close_code == 1001 else None


def reconnect_hint(message: str | bytes) -> int | None:
    """Returns the milliseconds of a `reconnect` message, which is the last before the close."""
    try:
        document = json.loads(message)
    except ValueError:
        return None
    if not isinstance(document, dict) or document.get("type") != "reconnect":
        return None
    after_ms = document.get("after_ms")
    return after_ms if isinstance(after_ms, int) and after_ms >= 0 else None


async def reconnect(connect, settings: Settings):
    """Opens the socket again. Raises Failure when the gateway does not come back."""
    wait = RECONNECT_WAIT_SECONDS
    for left in reversed(range(RECONNECT_TRIES)):
        try:
            websocket = await open_connection(connect, settings)
        except Failure as failure:
            if not left:
                raise
            note(f"{failure}; trying again")
        else:
            note(f"connected to {settings.url} again")
            return websocket
        await asyncio.sleep(wait * random.uniform(0.5, 1))
        wait *= 2
    raise AssertionError("the last try either connects or fails")


async def open_connection(connect, settings: Settings):
    """Opens the socket, turning every expected error into one sentence."""
    from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException

    try:
        return await connect(
            settings.url,
            additional_headers={"Authorization": f"Bearer {settings.token}"},
            open_timeout=OPEN_TIMEOUT_SECONDS,
            user_agent_header="wsgw-ws-client",
        )
    except InvalidURI as error:
        raise Failure(f"WS_URL is not a ws:// or wss:// address: {error}") from None
    except InvalidStatus as error:
        status = error.response.status_code
        raise Failure(f"{settings.url} answered HTTP {status}, not a WebSocket") from None
    except TimeoutError:
        raise Failure(f"no answer from {settings.url} in {OPEN_TIMEOUT_SECONDS} s") from None
    except OSError as error:
        # asyncio puts its own words in strerror, with the address that failed.
        reason = os.strerror(error.errno) if (error.errno or 0) > 0 else str(error)
        raise Failure(f"cannot connect to {settings.url}: {reason}") from None
    except (WebSocketException, ValueError, EOFError) as error:
        raise Failure(f"cannot open a WebSocket at {settings.url}: {error}") from None


def show(message: str | bytes) -> None:
    """Prints one received message at once, so that a pipe sees it when it comes."""
    if isinstance(message, bytes):
        message = message.decode("utf-8", "backslashreplace")
    print(message, flush=True)


def note(text: str) -> None:
    """Tells the person at the terminal, without getting into the messages' way."""
    print(text, file=sys.stderr, flush=True)


def report_close(code: int | None, reason: str | None) -> None:
    """Says how the connection ended."""
    code = 1006 if code is None else code
    ending = f"closed with code {code}" + (f": {reason}" if reason else "")
    if code in CLEAN_CLOSE_CODES:
        note(ending)
        return
    hint = CLOSE_HINTS.get(code)
    raise Failure(ending + (f" ({hint})" if hint else ""))


def main() -> int:
    """Runs the client and returns the exit status."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    if sys.version_info < (3, 11):
        note("ws_client.py: Python 3.11 or newer is needed")
        return 1
    try:
        asyncio.run(converse(Settings.from_environment(os.environ)))
    except Failure as failure:
        note(f"ws_client.py: {failure}")
        return 1
    except ModuleNotFoundError as error:
        note(
            f"ws_client.py: the Python package {error.name!r} is missing; "
            "run: pip install -r scripts/requirements.txt"
        )
        return 1
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # The reader of our output went away (`| head`). Python would complain once more
        # when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
