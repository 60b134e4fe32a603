"""The command line: runs a soak, judges a run of before, or draws its picture again."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from . import judge, picture
from .run import ROOT, Options, Run
from .servers import Failure

DESCRIPTION = """\
Runs a gateway for long under all that wears one out, and says whether it lost anything and whether its memory is flat.
It builds target/release/wsgw, and starts it in core mode (pipelines/core.yaml with acknowledgements) with a Redis of its
own, both on private ports. Until the time is up, all at once:

  clients that stay     30, each sends now and then and counts its pushes
  clients that come     8 a second; they send up to 6 messages, some of 60 KiB, and leave by a close frame, by none, by a
                        TCP reset, or by one with messages in flight
  pushes                by the Redis stream and by HTTP, to everyone and to single users, 13 a second
  reloads               SIGHUP every 5 s between two files; every sixth is invalid and has to be refused
  restarts of Redis     every 90 s, by turns by SIGTERM and by kill -9; it writes to disk what it confirms
  trouble               readers that do not read, floods, bad tokens, bad messages, broken frames, requests that never
                        end, calls without the key, malformed pushes, users that the backend disconnects

Then it lets all clients go, and looks at what is left."""

EPILOG = f"""\
What fails the run:
  - a message that was acknowledged, or surely read, and is not in the stream; or is there twice with two event ids;
    or has one event id twice, unless Redis was restarted then; or is out of its connection's order
  - a connection without exactly one `connected` and one `disconnected`, or with a gap between
  - a push that a client lacks, or has twice, or out of order; a client that was closed without a reason
  - a reload that was not done, an invalid file that was taken
  - at the end: a descriptor, thread, connection, event, push, old configuration or presence entry too many; a dead
    letter that is none of the malformed pushes; /ready or the exit code not as they should be
  - a panic in the log, or an error that is not of an invalid file
  - memory that grows

How memory (Pss, the proportional set size) is judged:
{judge.HOW}

It needs Python 3.11 with what scripts/requirements.txt names, redis-server and openssl; about a third of a core.

What is written: samples.csv (each second: memory in KiB, descriptors, threads, connections, events that wait, CPU),
soak.json (counts, faults, the verdict, when Redis was restarted and files were reloaded), soak.svg (the curves),
gateway.log, redis.log.

Exit status: 0 when nothing was lost and memory is flat, 1 when not, 2 on wrong usage, 130 after Ctrl-C, which ends the
load early and judges what there is.

Examples:
  scripts/soak.sh --minutes 60 --out soak              an hour, after a build
  scripts/soak.sh --minutes 1 --bin target/debug/wsgw  does everything work?
  scripts/soak.sh --judge soak/samples.csv             memory alone, of a run of before
"""


def arguments() -> argparse.Namespace:
    """The command line, parsed."""
    parser = argparse.ArgumentParser(
        prog="soak.sh", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60, metavar="N", help="how long the load lasts (60)")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="where results go (else they are not kept)")
    parser.add_argument("--bin", type=pathlib.Path, metavar="PATH", help="this gateway, without building one")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of what is left to chance (1)")
    parser.add_argument("--judge", type=pathlib.Path, metavar="CSV", help="only judge the memory of a run of before")
    parser.add_argument("--draw", type=pathlib.Path, metavar="DIR", help="only draw the picture of a run of before again")
    given = parser.parse_args()
    if not given.minutes > 0:
        parser.error("--minutes needs a number above 0")
    return given


def note(text: str) -> None:
    """Tells the person at the terminal, in one line that is written over; elsewhere in a line each."""
    print(f"\r\033[K{text}" if os.isatty(2) else text, end="" if os.isatty(2) else "\n", file=sys.stderr, flush=True)


def judge_file(path: pathlib.Path) -> int:
    """Judges the samples of a file."""
    try:
        verdict = judge.judge(judge.read_samples(path))
    except (OSError, ValueError) as error:
        raise Failure(str(error)) from None
    print(f"{'ok' if verdict.flat else 'FAILED'}  memory: {verdict}")
    return 0 if verdict.flat else 1


def draw(out: pathlib.Path) -> None:
    """Draws the picture of the run in this directory."""
    try:
        samples = judge.read_samples(out / "samples.csv")
        facts = json.loads((out / "soak.json").read_text())
    except (OSError, ValueError) as error:
        raise Failure(str(error)) from None
    (out / "soak.svg").write_text(picture.draw(samples, facts["marks"], facts["title"]))


def prepare(given: argparse.Namespace) -> pathlib.Path:
    """Sees that all is there that is needed, and gives the gateway's path."""
    for command, package in (("redis-server", "redis-server"), ("openssl", "openssl")):
        if not shutil.which(command):
            raise Failure(f"{command} is missing (Debian: apt-get install {package})")
    if given.bin:
        if not os.access(given.bin, os.X_OK):
            raise Failure(f"{given.bin} is no program")
        return given.bin.resolve()
    env = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
    if subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "wsgw"], cwd=ROOT, env=env).returncode:
        raise Failure("the gateway could not be built")
    return ROOT / "target/release/wsgw"


def soak(given: argparse.Namespace, out: pathlib.Path) -> int:
    """Runs it, writes and prints what came of it, and gives the exit status."""
    options = Options(given.minutes * 60, out.resolve(), prepare(given), given.seed)
    for old in ("gateway.log", "redis.log", "wsgw-dead-letters.jsonl", "redis"):
        path = options.out / old
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    begun = time.time()

    async def go() -> Run:
        run = Run(options, note)
        await run.run()
        return run

    run = asyncio.run(go())
    # Neither tells anything about the run, and both are large.
    (options.out / "wsgw").unlink()
    shutil.rmtree(options.out / "redis")
    if os.isatty(2):
        note("")
    if len(run.samples) < 2:
        raise Failure(f"the gateway did not last two seconds, see {run.gateway_log}")
    try:
        verdict = judge.judge(run.samples)
        if not verdict.flat:
            run.ledger.fault("memory", verdict.reason)
    except ValueError as error:
        verdict = None
        run.ledger.fault("memory", str(error))
    load = [sample for sample in run.samples if sample["steady"]] or run.samples
    minutes = load[-1]["seconds"] / 60 if load else 0
    facts = {
        "title": f"{minutes:.0f} minutes, {run.ledger.counts['connections opened']:,} connections, "
        f"{run.ledger.counts['reloads']} reloads, {len(run.ledger.outages)} restarts of Redis",
        "ok": not run.ledger.faults, "interrupted": run.interrupted, "begun": int(begun), "minutes": round(minutes, 2),
        "counts": dict(sorted(run.ledger.counts.items())), "in_flight": run.ledger.in_flight(),
        "memory": dataclasses.asdict(verdict) if verdict else None, "faults": run.ledger.faults,
        "log_events": dict(run.log_events.most_common()), "marks": [dataclasses.asdict(mark) for mark in run.marks],
    }
    judge.write_samples(options.out / "samples.csv", run.samples)
    (options.out / "soak.json").write_text(json.dumps(facts, indent=1) + "\n")
    draw(options.out)
    print_table(run, verdict, minutes)
    return 130 if run.interrupted else 1 if run.ledger.faults else 0


def print_table(run: Run, verdict: judge.Verdict | None, minutes: float) -> None:
    """Prints what was done, what came of it, and what was wrong."""
    counts, first, last = run.ledger.counts, run.samples[0], run.samples[-1]
    peak = max(sample["pss_kib"] for sample in run.samples) / 1024
    cpu = (last["cpu_seconds"] - first["cpu_seconds"]) / (last["seconds"] - first["seconds"]) * 100
    rows = {
        "duration": f"{minutes:.1f} min, the gateway took {cpu:.1f} % of a core",
        "connections": f"{counts['connections opened']:,} opened by clients, {counts['connected']:,} admitted and told of",
        "messages": f"{counts['messages read']:,} arrived of {counts['messages sent']:,}: {counts['messages refused']:,} "
        f"refused for their rate, {run.ledger.in_flight()} lost in flight by a reset",
        "events doubled": f"{counts['events doubled']:,}, around restarts",
        "pushes": f"{counts['pushes by Redis']:,} by Redis, {counts['pushes by HTTP']:,} by HTTP, "
        f"{counts['pushes received']:,} received",
        "reloads": f"{counts['reloads']:,}, and {counts['invalid files refused']:,} invalid files refused",
        "restarts of Redis": f"{counts['restarts of Redis by SIGTERM']} by SIGTERM, "
        f"{counts['restarts of Redis by SIGKILL']} by kill -9",
        "trouble": ", ".join(
            f"{counts[what]:,} {what}"
            for what in (
                "slow readers", "floods", "bad tokens", "bad requests", "protocol violations", "pushes that are none",
            )
        ),
        "descriptors": f"{run.before['fds']:.0f} before, {last['fds']:.0f} after, {max(s['fds'] for s in run.samples):.0f} at most",
        "memory (Pss)": f"{verdict or 'not judged'}; {peak:.1f} MiB at most",
    }
    print("soak")
    for name, text in rows.items():
        print(f"  {name:<18} {text}")
    for fault in run.ledger.faults:
        print(f"FAILED  {fault}")
    if not run.ledger.faults:
        print("ok      nothing was lost, nothing is left over, memory is flat")


def main() -> int:
    """Runs what was asked for."""
    given = arguments()
    # A proxy is no way to 127.0.0.1.
    os.environ["no_proxy"] = "*"
    try:
        if given.judge:
            return judge_file(given.judge)
        if given.draw:
            draw(given.draw)
            return 0
        with tempfile.TemporaryDirectory() as temporary:
            out = given.out or pathlib.Path(temporary)
            out.mkdir(parents=True, exist_ok=True)
            return soak(given, out)
    except Failure as failure:
        print(f"soak.sh: {failure}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(
            f"soak.sh: the Python package {error.name!r} is missing; run: pip install -r scripts/requirements.txt",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
