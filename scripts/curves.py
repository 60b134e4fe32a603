#!/usr/bin/env python3
"""Measures what a gateway costs at 100, 1,000, 5,000, 10,000 and 50,000 connections.

It starts gateways in core mode and a Redis of its own on private ports, one load tool (`wsgw bench`) for each gateway,
and stops them all. One process opens at most as many files as `ulimit -Hn` allows, so where a point has more connections
than fit one gateway, it starts several, on one Redis; the output says so. Needs redis-server, redis-cli and openssl.

For each number of connections:
  idle      memory of a connection (gateway, kernel, Redis), CPU of connecting, CPU while idle (pings and presence),
            and of connections that come and go beside them
  inbound   messages to Redis: 1,000 a second, 20,000 a second, and in a burst
  fanout    pushes from Redis to all of them: 10,000 deliveries a second, and in a burst
  rtt       pings: 2,000 a second, and each as soon as the last was answered
and once, push: what a push costs a gateway that reads it for one client, 1,000 a second, and in a burst.

scripts/curves_docs.py draws the results and brings them into the documentation.

Environment: WSGW_CURVES_PORT, the first of ten ports on 127.0.0.1 (default 18600).

Exit status: 0 when nothing was lost, doubled or reordered; 1 when something was, or could not be measured; 2 on wrong
usage.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import math
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from curve_parts import CpuClock, Cluster, Failed, Tools, available, own, pss, socket_buffers, socket_slabs

ROOT = pathlib.Path(__file__).resolve().parent.parent
POINTS = "100 1000 5000 10000 50000"
NAMES = ["idle", "inbound", "fanout", "rtt", "push"]
PER_GATEWAY = 16_000
MOST_GATEWAYS = 9
# Files that a process has open besides its clients, those of `churn` among them.
SPARE_FILES = 1_500
# Both ends of a connection, the tool's and the gateway's memory, and pushes that wait in the kernel.
BYTES_PER_CONNECTION = 48 << 10
SPARE_BYTES = 1 << 30
# Of fewer connections the kernel's memory is lost in what else the machine does.
KERNEL_FROM = 5_000
# So that neither pings nor the upkeep of presence fall into a load; `idle` measures them.
NO_UPKEEP = {"PRESENCE_TTL_SECONDS": "7200"}
NO_PINGS = ["server.ping_interval_seconds=3600"]


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="curves.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a hundredth of the load: shows that all works")
    parser.add_argument("--no-build", action="store_true", help="use the binary as it is")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help="only these; repeatable")
    parser.add_argument("--points", default=POINTS, metavar="N…", help=f"numbers of connections (default {POINTS!r})")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="keep curves.json, logs and keys there")
    parser.add_argument("--wsgw", type=pathlib.Path, metavar="FILE", help="the binary (default target/release/wsgw)")
    parser.add_argument(
        "--per-gateway", type=int, default=PER_GATEWAY, metavar="N", help=f"connections of one (default {PER_GATEWAY})"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="a setting of the gateways; repeatable"
    )
    args = parser.parse_args()
    try:
        args.points = sorted({int(point) for point in args.points.replace(",", " ").split()})
    except ValueError:
        parser.error("--points takes numbers, such as '100 1000'")
    if not args.points or args.points[0] < 1:
        parser.error("--points takes numbers above 0")
    if args.per_gateway < 1:
        parser.error("--per-gateway must be above 0")
    return args


def layout(connections: int, per_gateway: int, files: int) -> list[int]:
    """How many connections each gateway gets, evenly; fails where the machine cannot have so many."""
    room = min(per_gateway, files - SPARE_FILES)
    if room < 1:
        raise Failed(f"{files} open files are too few: raise `ulimit -Hn` to {connections + SPARE_FILES}")
    gateways = math.ceil(connections / room)
    if gateways > MOST_GATEWAYS:
        raise Failed(
            f"{connections} connections need {gateways} gateways of {room} each, and the ports are enough for "
            f"{MOST_GATEWAYS}: raise `ulimit -Hn`, or --per-gateway"
        )
    return [connections // gateways + (k < connections % gateways) for k in range(gateways)]


def check_memory(connections: int, free: int) -> None:
    """Fails where so many connections do not fit into memory."""
    needed = connections * BYTES_PER_CONNECTION + SPARE_BYTES
    if free < needed:
        raise Failed(
            f"{connections} connections need about {needed >> 20} MiB of memory, and {free >> 20} MiB are available: "
            "choose smaller --points"
        )


def percentile(counts: dict[float, int], share: float) -> float:
    """The latency that a share of all stays below."""
    wanted = math.ceil(sum(counts.values()) * share)
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    return 0.0


def merge(results: list[dict]) -> dict:
    """Adds up what the tools of one load found out."""
    counts: dict[float, int] = {}
    for result in results:
        for value, count in result.get("latency_counts") or []:
            counts[value] = counts.get(value, 0) + count
    total = {name: sum(result[name] for result in results) for name in ("expected", "count", "lost", "duplicate", "reordered")}
    seconds = max(result["seconds"] for result in results)
    total |= {"seconds": round(seconds, 3), "per_second": round(total["count"] / max(seconds, 1e-9), 1)}
    if counts:
        total |= {f"p{int(share * 100)}_us": round(percentile(counts, share), 1) for share in (0.5, 0.99)}
    return total


def judge(label: str, results: list[dict]) -> list[str]:
    """What is wrong with the results of one load, in words."""
    found = []
    for result in results:
        for name in ("lost", "duplicate", "reordered"):
            if result[name]:
                found.append(f"{label}: {result[name]} {result['unit']}s {name}")
        if result["count"] != result["expected"]:
            found.append(f"{label}: {result['count']} of {result['expected']} {result['unit']}s")
        found += [f"{label}: {problem}" for problem in result["problems"]]
        if result["exit"] != 0 and not found:
            found.append(f"{label}: the load tool ended with {result['exit']}")
    return found


class Measuring:
    """One run of this script."""

    def __init__(self, args: argparse.Namespace, out: pathlib.Path):
        self.args, self.out = args, out
        self.wsgw = (args.wsgw or ROOT / "target/release/wsgw").resolve()
        self.port = int(os.environ.get("WSGW_CURVES_PORT", "18600"))
        self.scale = 100 if args.quick else 1
        self.failures: list[str] = []
        self.pipeline = ROOT / "pipelines/core.yaml"

    def wanted(self, name: str) -> bool:
        return not self.args.only or name in self.args.only

    @contextlib.contextmanager
    def cluster(self, gateways: int, upkeep: bool = False):
        with Cluster(self.wsgw, self.out, self.port, gateways) as cluster:
            overrides = ([] if upkeep else NO_PINGS) + self.args.set
            cluster.start(self.pipeline, {} if upkeep else NO_UPKEEP, overrides)
            yield cluster

    def load(self, label: str, shares: list[int], commands) -> dict:
        """One load on fresh gateways: what it cost each unit, and how long each took."""
        note(f"== {label}")
        with self.cluster(len(shares)) as cluster:
            gateways, redis = CpuClock(cluster.gateway_pids), CpuClock(cluster.redis_pids)
            with Tools(cluster, commands(cluster), self.patience(shares)) as tools:
                tools.expect("ready")
                gateways.quiet()
                memory, before, redis_before = cluster.redis_memory(), gateways.read(), redis.read()
                tools.go()
                tools.expect("done")
                gateways.quiet()
                used = gateways.between(before, gateways.read())
                redis_used = redis.between(redis_before, redis.read())
                memory = cluster.redis_memory() - memory
                tools.go()
                results = tools.results()
        self.failures += judge(label, results)
        found = merge(results)
        units = max(found["count"], 1)
        found["cpu_us"] = round(used * 1e6 / units, 3)
        found["redis_cpu_us"] = round(redis_used * 1e6 / units, 3)
        found["redis_bytes"] = round(memory / units, 1)
        return found

    def patience(self, shares: list[int]) -> float:
        """Longest wait for a step: signing and checking tokens takes a millisecond each at worst."""
        return 120 + sum(shares) / 100

    def idle(self, shares: list[int]) -> dict:
        """Memory, connecting, upkeep, and connections that come and go beside those that stay."""
        total = sum(shares)
        label = f"{total:,} connections: idle"
        note(f"== {label}")
        hold = 60 if not self.args.quick else 1
        with self.cluster(len(shares), upkeep=True) as cluster:
            gateways, redis = CpuClock(cluster.gateway_pids), CpuClock(cluster.redis_pids)
            gateways.quiet()
            process, base, base_redis = pss(gateways.pids), own(gateways.pids), own(redis.pids)
            slabs, buffers, free = socket_slabs(), socket_buffers(), available()
            redis_memory, before, redis_before = cluster.redis_memory(), gateways.read(), redis.read()
            commands = [["idle", "--connections", str(share)] for share in shares]
            with Tools(cluster, commands, self.patience(shares)) as tools:
                tools.expect("ready")
                gateways.quiet()
                connect = gateways.between(before, gateways.read())
                connect_redis = redis.between(redis_before, redis.read())
                grown, grown_redis = own(gateways.pids) - base, own(redis.pids) - base_redis
                events = int(cluster.redis("MEMORY", "USAGE", "ws.events", "SAMPLES", "0") or 0)
                found = {
                    "process_bytes": round(process / len(shares)),
                    "gateway_bytes": round(grown / total, 1),
                    "redis_bytes": round((cluster.redis_memory() - redis_memory - events) / total, 1),
                    "redis_event_bytes": round(events / total, 1),
                }
                if total >= KERNEL_FROM:
                    # Both ends of each connection are on this machine.
                    gone = free - available() - grown - grown_redis - own(tools.pids)
                    found["kernel_gone_bytes"] = round(gone / total / 2, 1)
                    kernel = gone if slabs is None else (socket_slabs() or 0) - slabs + socket_buffers() - buffers
                    found["kernel_bytes"] = round(kernel / total / 2, 1)
                start, before, redis_before = time.monotonic(), gateways.read(), redis.read()
                time.sleep(hold)
                seconds = time.monotonic() - start
                idle, idle_redis = gateways.between(before, gateways.read()), redis.between(redis_before, redis.read())
                found["idle_percent"] = round(idle / seconds * 100, 3)
                found["redis_idle_percent"] = round(idle_redis / seconds * 100, 3)
                found["churn"] = self.churn(cluster, gateways, total, idle / seconds)
                tools.go()
                tools.expect("done")
                tools.go()
                results = tools.results()
        self.failures += judge(label, results)
        found["connect"] = merge(results) | {
            "cpu_us": round(connect * 1e6 / total, 2),
            "redis_cpu_us": round(connect_redis * 1e6 / total, 2),
        }
        return found

    def churn(self, cluster: Cluster, gateways: CpuClock, total: int, idle: float) -> dict:
        """Connections that come and go at the first gateway, without what the others cost meanwhile."""
        command = ["churn", "--rate", "200", "--seconds", str(5 if not self.args.quick else 0.2)]
        with Tools(cluster, [command], 120) as tools:
            tools.expect("ready")
            start, before = time.monotonic(), gateways.read()
            tools.go()
            tools.expect("done")
            used = gateways.between(before, gateways.read()) - idle * (time.monotonic() - start)
            tools.go()
            results = tools.results()
        self.failures += judge(f"{total:,} connections: churn", results)
        found = merge(results)
        return found | {"cpu_us": round(max(used, 0) * 1e6 / max(found["count"], 1), 2)}

    def inbound(self, shares: list[int], messages: int, rate: int | None):
        each, tools = max(messages // self.scale // len(shares), 1), len(shares)

        def commands(cluster: Cluster) -> list[list[str]]:
            pace = "burst" if rate is None else str(rate / tools)
            return [
                ["inbound", "--connections", str(share), "--messages", str(each), "--rate", pace,
                 "--redis", cluster.redis_url, "--stream", cluster.inbox(k)]
                for k, share in enumerate(shares)
            ]  # fmt: skip

        return commands

    def fanout(self, shares: list[int], pushes: int, rate: float | None):
        run = str(int(time.time()) & 0x7FFFFFFF)

        def commands(cluster: Cluster) -> list[list[str]]:
            pace = ["--burst"] if rate is None else ["--rate", f"{rate:.4f}"]
            shared = ["--run", run, "--pushes", str(pushes), "--redis", cluster.redis_url, *pace]
            return [
                ["fanout", "--connections", str(share), *shared, *(["--receive"] if k else [])]
                for k, share in enumerate(shares)
            ]

        return commands

    def rtt(self, shares: list[int], seconds: float, rate: int | None):
        def commands(cluster: Cluster) -> list[list[str]]:
            pace = [] if rate is None else ["--rate", str(rate / len(shares))]
            return [["rtt", "--connections", str(share), "--seconds", str(seconds), *pace] for share in shares]

        return commands

    def point(self, connections: int) -> dict:
        """Everything at one number of connections."""
        shares = layout(connections, self.args.per_gateway, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        check_memory(connections, available())
        if len(shares) > 1:
            note(f"{connections:,} connections: {len(shares)} gateways and as many load tools, on one Redis")
        found: dict = {"connections": connections, "gateways": len(shares)}
        name = f"{connections:,} connections"
        if self.wanted("idle"):
            found["idle"] = self.idle(shares)
        if self.wanted("inbound"):
            for key, messages, rate in (
                ("inbound_paced", 10_000, 1_000), ("inbound_busy", 100_000, 20_000), ("inbound_burst", 200_000, None),
            ):  # fmt: skip
                found[key] = self.load(f"{name}: {key}", shares, self.inbound(shares, messages, rate))
        if self.wanted("fanout"):
            # The same number of deliveries a second at every point, and enough pushes for a 99th percentile.
            rate = 10_000 / connections
            pushes = 3 if self.args.quick else max(5, round(10 * rate))
            found["fanout_paced"] = self.load(f"{name}: fanout_paced", shares, self.fanout(shares, pushes, rate))
            pushes = 100 if not self.args.quick else 10
            found["fanout_burst"] = self.load(f"{name}: fanout_burst", shares, self.fanout(shares, pushes, None))
        if self.wanted("rtt"):
            seconds = 0.5 if self.args.quick else 10
            found["rtt_paced"] = self.load(f"{name}: rtt_paced", shares, self.rtt(shares, seconds, 2_000))
            found["rtt_closed"] = self.load(f"{name}: rtt_closed", shares, self.rtt(shares, seconds / 2, None))
        return found

    def run(self) -> dict:
        found = {"machine": machine(), "quick": self.args.quick, "points": []}
        for connections in self.args.points:
            found["points"].append(self.point(connections))
            # What was measured so far stays, should a later point fail.
            self.save(found)
        if self.wanted("push"):
            found["push_paced"] = self.load("push_paced", [1], self.fanout([1], 10_000 // self.scale, 1_000))
            found["push_burst"] = self.load("push_burst", [1], self.fanout([1], 50_000 // self.scale, None))
        found["complete"] = not self.args.only
        self.save(found)
        return found

    def save(self, found: dict) -> None:
        found["failures"] = self.failures
        (self.out / "curves.json").write_text(json.dumps(found, indent=1) + "\n")


def machine() -> dict:
    """Where and when this was measured."""
    cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    total = re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "cores": os.cpu_count(),
        "cpu": cpu[1] if cpu else "unknown",
        "memory_bytes": int(total[1]) * 1024 if total else 0,
        # What distributions put behind the version says nothing here.
        "kernel": re.split(r"[^0-9.]", os.uname().release)[0],
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
    }


def keys(out: pathlib.Path) -> None:
    if not (out / "keys/private.pem").exists():
        command = [ROOT / "scripts/gen_dev_keys.sh", out / "keys"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    args = arguments()
    for program in ("redis-server", "redis-cli", "openssl"):
        if not shutil.which(program):
            raise Failed(f"{program} is missing (Debian: apt-get install redis-server openssl)")
    # Nothing is built or started for what does not fit anyway.
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for connections in args.points:
        layout(connections, args.per_gateway, files)
        check_memory(connections, available())
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if not args.no_build:
        subprocess.run(["cargo", "build", "--release", "--bin", "wsgw"], cwd=ROOT, check=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        if args.out:
            out = args.out.resolve()
            out.mkdir(parents=True, exist_ok=True)
        else:
            out = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keys(out)
        measuring = Measuring(args, out)
        if not os.access(measuring.wsgw, os.X_OK):
            raise Failed(f"{measuring.wsgw} is missing; run without --no-build")
        found = measuring.run()
    from curves_docs import table

    print(table(found))
    for failure in found["failures"]:
        note(f"curves.py: {failure}")
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        note(f"curves.py: {error}")
        sys.exit(1)
    except subprocess.CalledProcessError as error:
        note(f"curves.py: {error.cmd[0]} failed")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
