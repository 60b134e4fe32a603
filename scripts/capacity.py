#!/usr/bin/env python3
"""Says what a number of connections and messages needs: gateways, cores, memory, Redis, network, files.

    capacity.py --connections 1000000 --messages-per-second 1000000

The costs of a connection, a message and a delivery come from docs/data/curves.json, which scripts/curves.py measured;
--data names another file, of your machines. Everything else is an option. It is a model: docs/performance.md says how
it reckons, and what it leaves out. Needs nothing but Python.

Exit status: 0, or 2 if an option or the file is wrong.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import sys
from dataclasses import dataclass

DATA = pathlib.Path(__file__).resolve().parent.parent / "docs/data/curves.json"
GIB = 1 << 30
# Ethernet with preamble and gap 38, IPv4 20, TCP with time stamps 32.
PACKET_BYTES = 90
SEGMENT_BYTES = 1448
# Of a WebSocket frame: two bytes, two of length, four of mask from clients.
FRAME_BYTES = 8
# What a broker's command puts around an event, about.
COMMAND_BYTES = 60


class Unusable(Exception):
    """The file of measured costs does not do; the text says why."""


@dataclass(frozen=True)
class Costs:
    """What was measured; CPU in microseconds, memory in bytes."""

    connections: int
    process_bytes: float
    gateway_bytes: float
    kernel_bytes: float
    redis_connection_bytes: float
    redis_message_bytes: float
    idle_us_a_second: float
    redis_idle_us_a_second: float
    connect_us: float
    redis_connect_us: float
    inbound_us: float
    redis_inbound_us: float
    delivery_us: float
    push_us: float
    redis_push_us: float
    # The most that one gateway did a second, beside its load tool.
    inbound_rate: float
    delivery_rate: float
    connect_rate: float

    @classmethod
    def read(cls, path: pathlib.Path, pace: str) -> Costs:
        """The costs at the largest point of one gateway, which is nearest to how a gateway is used."""
        try:
            data = json.loads(path.read_text())
            alone = [point for point in data["points"] if point["gateways"] == 1]
            point = max(alone, key=lambda point: point["connections"])
            idle, count = point["idle"], point["connections"]
            pushed = "burst" if pace == "burst" else "paced"
            inbound, fanout, push = point[f"inbound_{pace}"], point[f"fanout_{pushed}"], data[f"push_{pushed}"]
            return cls(
                connections=count,
                process_bytes=idle["process_bytes"],
                gateway_bytes=idle["gateway_bytes"],
                kernel_bytes=idle["kernel_bytes"],
                redis_connection_bytes=idle["redis_bytes"],
                redis_message_bytes=point["inbound_burst"]["redis_bytes"],
                idle_us_a_second=idle["idle_percent"] * 1e4 / count,
                redis_idle_us_a_second=idle["redis_idle_percent"] * 1e4 / count,
                connect_us=idle["connect"]["cpu_us"],
                redis_connect_us=idle["connect"]["redis_cpu_us"],
                inbound_us=inbound["cpu_us"],
                redis_inbound_us=inbound["redis_cpu_us"],
                delivery_us=fanout["cpu_us"],
                push_us=push["cpu_us"],
                redis_push_us=push["redis_cpu_us"],
                inbound_rate=max(point["inbound_burst"]["per_second"] for point in alone),
                delivery_rate=max(point["fanout_burst"]["per_second"] for point in alone),
                connect_rate=max(point["idle"]["connect"]["per_second"] for point in alone),
            )
        except OSError as error:
            raise Unusable(f"cannot read {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise Unusable(f"{path} lacks something that curves.py measures: {error}") from None


@dataclass(frozen=True)
class Need:
    """What it takes."""

    working: int
    nodes: int
    bound: str
    cores: dict[str, float]
    node_memory: float
    node_files: int
    node_connections: int
    redis_cores: float
    redis_shards: int
    redis_presence_bytes: float
    redis_stream_bytes: float
    clients_in_bits: float
    clients_out_bits: float
    broker_bits: float
    lost_connections: int
    reconnects_a_second: float
    back_seconds: float


def wire(messages: float, payload: float) -> float:
    """Bits a second of messages that have packets of their own."""
    size = payload + FRAME_BYTES
    return messages * (size + math.ceil(size / SEGMENT_BYTES) * PACKET_BYTES) * 8


def reckon(costs: Costs, args: argparse.Namespace) -> Need:
    """The model. Every figure follows from measured costs and options alone."""
    deliveries = args.pushes_per_second * args.fanout
    connects = args.connections / args.connection_seconds
    busy = args.cores * args.utilisation
    demand = {
        "idle connections": args.connections * costs.idle_us_a_second / 1e6,
        "connecting": connects * costs.connect_us / 1e6,
        "messages in": args.messages_per_second * costs.inbound_us / 1e6,
        "deliveries": deliveries * costs.delivery_us / 1e6,
    }
    # Every gateway reads every push.
    reading = args.pushes_per_second * costs.push_us / 1e6
    if reading >= busy:
        raise Unusable("reading every push alone takes more than a gateway has: split the outbox")
    connection = costs.gateway_bytes + costs.kernel_bytes
    room = args.memory_gib * GIB * args.memory_share - costs.process_bytes
    if room <= 0:
        raise Unusable("a node's memory does not hold the process itself")
    bounds = {
        "CPU": sum(demand.values()) / (busy - reading),
        "memory": args.connections * connection / room,
        "open files": args.connections / args.open_files,
        "the measured rate of messages": args.messages_per_second / (costs.inbound_rate * args.speedup),
        "the measured rate of deliveries": deliveries / (costs.delivery_rate * args.speedup),
    }
    bound = max(bounds, key=lambda name: bounds[name])
    working = max(1, math.ceil(bounds[bound]))
    nodes = working + args.spare
    demand["reading pushes"] = reading * nodes
    redis_cores = (
        args.connections * costs.redis_idle_us_a_second
        + connects * costs.redis_connect_us
        + args.messages_per_second * costs.redis_inbound_us
        + args.pushes_per_second * nodes * costs.redis_push_us
    ) / 1e6
    # One node is lost: its clients come to those that are left, which go on with the load there was.
    left = max(nodes - 1, 1)
    free = max(left * args.cores - sum(demand.values()), 0)
    lost = math.ceil(args.connections / nodes)
    reconnects = min(free / (costs.connect_us / 1e6) * args.reconnect_share, left * costs.connect_rate * args.speedup)
    return Need(
        working=working,
        nodes=nodes,
        bound=bound,
        cores=demand,
        node_memory=costs.process_bytes + args.connections / max(nodes - 1, 1) * connection,
        node_files=math.ceil(args.connections / left) + 1_000,
        node_connections=math.ceil(args.connections / nodes),
        redis_cores=redis_cores,
        redis_shards=max(1, math.ceil(redis_cores / args.redis_utilisation)),
        redis_presence_bytes=args.connections * costs.redis_connection_bytes,
        redis_stream_bytes=args.messages_per_second * args.kept_seconds * costs.redis_message_bytes,
        clients_in_bits=wire(args.messages_per_second, args.payload_bytes),
        clients_out_bits=wire(deliveries, args.payload_bytes),
        broker_bits=args.messages_per_second * (costs.redis_message_bytes + COMMAND_BYTES) * 8
        + args.pushes_per_second * nodes * (args.payload_bytes + COMMAND_BYTES) * 8,
        lost_connections=lost,
        reconnects_a_second=reconnects,
        back_seconds=lost / reconnects if reconnects else math.inf,
    )


def rows(costs: Costs, args: argparse.Namespace, need: Need) -> list[tuple[str, str]]:
    """What is printed."""
    found = [
        ("connections", f"{args.connections:,}"),
        ("messages in", f"{args.messages_per_second:,.0f} /s of {args.payload_bytes} bytes"),
        ("pushes", f"{args.pushes_per_second:,.0f} /s, each to {args.fanout:,}"),
        ("gateways", f"{need.nodes} of {args.cores} cores and {args.memory_gib:g} GiB ({args.spare} to spare); {need.bound} decides"),
    ]
    found += [(f"cores for {name}", f"{cores:.1f}") for name, cores in need.cores.items()]
    together = sum(need.cores.values())
    found += [
        ("cores together", f"{together:.1f}, {together / need.nodes:.1f} on each gateway"),
        ("memory of a gateway", f"{need.node_memory / GIB:.2f} GiB for its share when one is lost"),
        ("open files of a gateway", f"{need.node_files:,}"),
        ("Redis, cores", f"{need.redis_cores:.1f}, so {need.redis_shards} shards"),
        ("Redis, presence", f"{need.redis_presence_bytes / GIB:.2f} GiB"),
        ("Redis, streams", f"{need.redis_stream_bytes / GIB:.1f} GiB for {args.kept_seconds:g} s of messages"),
        ("network, from clients", f"{need.clients_in_bits / 1e9:.2f} Gbit/s"),
        ("network, to clients", f"{need.clients_out_bits / 1e9:.2f} Gbit/s"),
        ("network, to and from Redis", f"{need.broker_bits / 1e9:.2f} Gbit/s"),
        ("when a gateway is lost", f"{need.lost_connections:,} connections come back"),
        ("the others take", f"{need.reconnects_a_second:,.0f} /s beside their load"),
        ("all are back after", f"{need.back_seconds:.1f} s" if math.isfinite(need.back_seconds) else "never: no CPU is free"),
    ]
    return found


def above(least: float, most: float = math.inf, kind=float):
    """Parses a number in a range."""

    def parse(text: str):
        try:
            value = kind(text.replace(",", "").replace("_", ""))
        except ValueError:
            raise argparse.ArgumentTypeError("expected a number") from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected {least:g} to {most:g}")
        return value

    return parse


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="capacity.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def add(name: str, default, kind, text: str) -> None:
        parser.add_argument(name, default=default, type=kind, help=f"{text} (default {default})")

    share = above(0.01, 1)
    add("--connections", 1_000_000, above(1, kind=int), "clients at once")
    add("--messages-per-second", 1_000_000, above(0), "messages that they send together")
    add("--pushes-per-second", 100, above(0), "pushes of the backend")
    add("--fanout", 1_000, above(0, kind=int), "connections that a push reaches")
    add("--payload-bytes", 100, above(0, kind=int), "size of a message, and of a push")
    add("--connection-seconds", 3_600, above(1), "how long a connection lasts")
    add("--cores", 4, above(1, kind=int), "cores of a node")
    add("--memory-gib", 16, above(0.1), "memory of a node")
    add("--open-files", 1_000_000, above(1, kind=int), "files that a gateway may open")
    add("--utilisation", 0.6, share, "share of a node's cores that may be busy")
    add("--memory-share", 0.7, share, "share of a node's memory that connections may take")
    add("--speedup", 1.0, above(0.01), "times the measured rates that a gateway of yours reaches")
    add("--spare", 1, above(0, kind=int), "gateways that may be lost")
    add("--redis-utilisation", 0.7, share, "share of its core that a Redis shard may be busy")
    add("--kept-seconds", 60, above(0), "how long messages stay in their streams")
    add("--reconnect-share", 0.5, share, "share of the free cores that reconnecting may take")
    parser.add_argument(
        "--pace", choices=("paced", "busy", "burst"), default="busy",
        help="which costs of a message: at 1,000 a second on a gateway, at 20,000, or in a burst; a delivery's are those "
        "of lone pushes, or of a burst (default busy)",
    )  # fmt: skip
    parser.add_argument("--data", type=pathlib.Path, default=DATA, metavar="FILE", help="measured costs")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    try:
        costs = Costs.read(args.data, args.pace)
        need = reckon(costs, args)
    except Unusable as error:
        print(f"capacity.py: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps({"costs": vars(costs), "need": vars(need)}, indent=1))
    else:
        for name, value in rows(costs, args, need):
            print(f"{name:<32}{value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
