"""What was sent, and what came of it: the bookkeeping that finds what was lost, doubled or out of order."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

# Of each kind of fault so many are told in words; all are counted.
TOLD = 20
# Ids that are remembered to find what comes twice.
REMEMBERED = 50_000
# After a broker is back, what was under way when it went may still be sent again.
AFTERMATH_SECONDS = 15


@dataclass
class Connection:
    """A connection as the backend sees it, from `connected` until `disconnected` and all between have come."""

    connected: bool = False
    # The number of its last event in the inbox, where they are in order; `connected` is 1.
    last: int = 1
    # The number of `disconnected`.
    end: int | None = None


@dataclass
class Ledger:
    """The books of one run."""

    counts: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    # When a broker went, and when it was back (0: it is away), in milliseconds of Unix time.
    outages: list[list[float]] = field(default_factory=list)
    connections: dict[str, Connection] = field(default_factory=dict)
    _numbers: int = 0
    # Messages that did not come yet, and whether they have to.
    _due: dict[str, bool] = field(default_factory=dict)
    _come: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _events: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def fault(self, kind: str, text: str) -> None:
        """Notes what should not be."""
        self.counts[f"fault: {kind}"] += 1
        if self.counts[f"fault: {kind}"] <= TOLD:
            self.faults.append(f"{kind}: {text}")

    def new_id(self) -> str:
        """An id for the next message."""
        self._numbers += 1
        return f"m{self._numbers}"

    def sent(self, message: str) -> None:
        """A message was given to the connection; it may still be lost with it."""
        self.counts["messages sent"] += 1
        self._due[message] = False

    def taken(self, message: str) -> None:
        """The gateway acknowledged it, or answered what came after it: it has to arrive."""
        if message in self._due:
            self._due[message] = True

    def refused(self, message: str) -> None:
        """The gateway said that it does not take it: it must not arrive."""
        self.counts["messages refused"] += 1
        if self._due.pop(message, None) is None:
            self.fault("refused, but published", message)

    def down(self) -> None:
        """A broker goes."""
        self.outages.append([time.time() * 1000, 0.0])

    def up(self) -> None:
        """It is back."""
        self.outages[-1][1] = time.time() * 1000

    def disturbed(self, at_ms: float) -> bool:
        """Whether a broker was away then, or just before."""
        return any(
            down - 1000 <= at_ms and (not up or at_ms <= up + AFTERMATH_SECONDS * 1000) for down, up in self.outages
        )

    def arrived(self, entry_ms: int, event: dict) -> None:
        """The backend read an event."""
        kind, event_id, key = event["type"], event["event_id"], event["connection_id"]
        self.counts["events read"] += 1
        if event_id in self._events:
            self.counts["events doubled"] += 1
            if not self.disturbed(entry_ms):
                self.fault("doubled without a restart", f"{kind} {event_id}")
            return
        remember(self._events, event_id)
        connection = self.connections.setdefault(key, Connection())
        seq = event["seq"]
        if kind == "connected":
            self.counts["connected"] += 1
            if connection.connected or seq != 1:
                self.fault("connected twice", f"{key} seq {seq}")
            connection.connected = True
        elif kind == "disconnected":
            self.counts["disconnected"] += 1
            self.counts[f"closed by {event['close_code']}"] += 1
            if connection.end is not None:
                self.fault("disconnected twice", f"{key} seq {seq}")
            connection.end = seq
        else:
            self.counts["messages read"] += 1
            if seq != connection.last + 1:
                self.fault("lost or out of order", f"{key}: seq {seq} after {connection.last}")
            connection.last = max(seq, connection.last)
            self._message(event["message"])
        if connection.connected and connection.end is not None and connection.end == connection.last + 1:
            del self.connections[key]

    def _message(self, message: dict) -> None:
        # What is no JSON ends in its id; what is binary is only counted.
        message_id = message.get("id") or str(message.get("payload", "")).rpartition(" ")[2]
        if message.get("type") == "binary":
            self.counts["binary read"] += 1
        elif message_id in self._come:
            self.fault("published twice", message_id)
        elif self._due.pop(message_id, None) is None:
            self.fault("came from nowhere", message_id)
        else:
            remember(self._come, message_id)

    def missing(self) -> list[str]:
        """Messages that have to arrive and did not."""
        return [message for message, certain in self._due.items() if certain]

    def in_flight(self) -> int:
        """Messages that were lost with their connection, before the gateway answered."""
        return sum(not certain for certain in self._due.values())


def remember(ids: OrderedDict[str, None], new: str) -> None:
    """Adds an id, and forgets the oldest."""
    ids[new] = None
    if len(ids) > REMEMBERED:
        ids.popitem(last=False)


class Sequences:
    """The pushes that one client gets: each way and each subject is a sequence without gaps."""

    def __init__(self, ledger: Ledger, name: str, from_the_first: bool) -> None:
        self._ledger, self._name, self._from_the_first = ledger, name, from_the_first
        self.next: dict[str, int] = {}

    def got(self, payload: dict) -> None:
        """A push came."""
        sequence, number = payload["sequence"], payload["n"]
        expected = self.next.get(sequence, 1 if self._from_the_first else number)
        self._ledger.counts["pushes received"] += 1
        if number > expected:
            self._ledger.fault("pushes lost", f"{self._name}: {sequence} {number} after {expected - 1}")
        elif number < expected:
            self._ledger.fault("pushes doubled", f"{self._name}: {sequence} {number} after {expected - 1}")
        self.next[sequence] = max(number, expected - 1) + 1
