#!/usr/bin/env python3
"""Brings what curves.py measured into the documentation: the data, pictures, tables, and what capacity.py makes of it.

    curves_docs.py DIR/curves.json     copies it to docs/data, draws docs/images/curves-*.svg, fills docs/performance.md
    curves_docs.py                     does so again from docs/data/curves.json
    curves_docs.py --check             changes nothing, and fails when something differs from that
    curves_docs.py --table FILE        prints the table alone

Exit status: 0, 1 when --check finds a difference, 2 if an argument or the file is wrong.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / "docs/data/curves.json"
PAGE = ROOT / "docs/performance.md"

# Title, where it stands in a point, and its unit.
ROWS = [
    ("gateways", "gateways", ""),
    ("memory of a connection, gateway", "idle.gateway_bytes", "B"),
    ("the same, kernel", "idle.kernel_bytes", "B"),
    ("the same, Redis (presence)", "idle.redis_bytes", "B"),
    ("CPU of all of them idle", "idle.idle_percent", "%"),
    ("the same, Redis", "idle.redis_idle_percent", "%"),
    ("connect, as fast as it goes, CPU", "idle.connect.cpu_us", "us"),
    ("the same, p50", "idle.connect.p50_us", "ms"),
    ("the same, p99", "idle.connect.p99_us", "ms"),
    ("connect and close beside them, 200 a second, CPU", "idle.churn.cpu_us", "us"),
    ("message → Redis, 1,000 a second, CPU", "inbound_paced.cpu_us", "us"),
    ("the same, Redis with a reader", "inbound_paced.redis_cpu_us", "us"),
    ("the same, p50", "inbound_paced.p50_us", "ms"),
    ("the same, p99", "inbound_paced.p99_us", "ms"),
    ("message → Redis, 20,000 a second, CPU", "inbound_busy.cpu_us", "us"),
    ("the same, Redis with a reader", "inbound_busy.redis_cpu_us", "us"),
    ("the same, p50", "inbound_busy.p50_us", "ms"),
    ("the same, p99", "inbound_busy.p99_us", "ms"),
    ("message → Redis, burst, CPU", "inbound_burst.cpu_us", "us"),
    ("the same, Redis", "inbound_burst.redis_cpu_us", "us"),
    ("push to all, 10,000 deliveries a second, CPU of each", "fanout_paced.cpu_us", "us"),
    ("the same, p50", "fanout_paced.p50_us", "ms"),
    ("the same, p99", "fanout_paced.p99_us", "ms"),
    ("push to all, burst of 100, CPU of each delivery", "fanout_burst.cpu_us", "us"),
    ("the same, deliveries a second", "fanout_burst.per_second", "n"),
    ("ping → pong, 2,000 a second, CPU", "rtt_paced.cpu_us", "us"),
    ("the same, p50", "rtt_paced.p50_us", "ms"),
    ("the same, p99", "rtt_paced.p99_us", "ms"),
    ("ping → pong, closed loop, CPU", "rtt_closed.cpu_us", "us"),
    ("the same, round trips a second", "rtt_closed.per_second", "n"),
]  # fmt: skip

CPU_LINES = [
    ("connect", "idle.connect.cpu_us"),
    ("message, 1,000 a second", "inbound_paced.cpu_us"),
    ("message, 20,000 a second", "inbound_busy.cpu_us"),
    ("message, burst", "inbound_burst.cpu_us"),
    ("delivery, paced", "fanout_paced.cpu_us"),
    ("delivery, burst", "fanout_burst.cpu_us"),
    ("ping, 2,000 a second", "rtt_paced.cpu_us"),
    ("ping, closed loop", "rtt_closed.cpu_us"),
]
MEMORY_LINES = [
    ("gateway", "idle.gateway_bytes"),
    ("kernel", "idle.kernel_bytes"),
    ("Redis, presence", "idle.redis_bytes"),
]
LATENCY_LINES = [
    ("message, 1,000 a second, p50", "inbound_paced.p50_us"),
    ("the same, p99", "inbound_paced.p99_us"),
    ("ping, 2,000 a second, p50", "rtt_paced.p50_us"),
    ("the same, p99", "rtt_paced.p99_us"),
    ("push to all, paced, p50", "fanout_paced.p50_us"),
    ("the same, p99", "fanout_paced.p99_us"),
]


def value_at(point: dict, path: str) -> float | None:
    """A figure by its path; None where it was not measured."""
    at = point
    for name in path.split("."):
        if not isinstance(at, dict) or name not in at:
            return None
        at = at[name]
    return at


def digits(value: float) -> str:
    """Three digits that count, and no more places than the figure deserves."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 3)}f}"


def shown(value: float | None, unit: str) -> str:
    """A figure as the table has it."""
    if value is None:
        return "–"
    if unit == "ms":
        return f"{digits(value / 1000)} ms"
    if unit in ("B", "n"):
        return f"{value:,.0f}" + (" B" if unit == "B" else "")
    return {"us": f"{digits(value)} µs", "%": f"{digits(value)} %", "": f"{value}"}[unit]


def table(data: dict) -> str:
    """The table of all points."""
    points = data["points"]
    lines = ["| connections | " + " | ".join(f"{point['connections']:,}" for point in points) + " |"]
    lines.append("|---|" + "---|" * len(points))
    for title, path, unit in ROWS:
        values = [value_at(point, path) for point in points]
        if any(value is not None for value in values):
            lines.append(f"| {title} | " + " | ".join(shown(value, unit) for value in values) + " |")
    if "push_paced" in data:
        paced, burst = data["push_paced"], data["push_burst"]
        both = [f"{shown(cost['cpu_us'], 'us')} (Redis {shown(cost['redis_cpu_us'], 'us')})" for cost in (paced, burst)]
        lines += ["", f"A push that is for one client costs a gateway {both[0]} at 1,000 a second, {both[1]} in a burst."]
    return "\n".join(lines)


def machine(data: dict) -> str:
    """Where the figures come from, in a sentence."""
    where = data["machine"]
    several = [f"{point['connections']:,} on {point['gateways']} gateways" for point in data["points"] if point["gateways"] > 1]
    text = (
        f"Measured on {where['date']}: {where['cores']} cores ({where['cpu']}), {where['memory_bytes'] / 2**30:.0f} GiB, "
        f"Linux {where['kernel']}, {where['open_files']:,} open files for a process"
    )
    return text + (f"; {' and '.join(several)} with as many load tools, on one Redis." if several else ".")


STYLE = """\
    text { font: 13px system-ui, sans-serif; fill: #1f2937 }
    .small { font-size: 12px; fill: #4b5563 }
    .grid { stroke: #d1d5db; stroke-width: 1 }
    .axis { stroke: #6b7280; stroke-width: 1.3 }
    .line { fill: none; stroke-width: 2 }
    .dot { stroke: none }
    @media (prefers-color-scheme: dark) {
      text { fill: #e5e7eb }
      .small { fill: #b6bdc8 }
      .grid { stroke: #374151 }
      .axis { stroke: #9ca3af }
    }"""
# For light and for dark, told apart by those who see no red or green as well: each line has a dash of its own.
COLOURS = [
    ("#2563eb", "#7aa5f7"), ("#b45309", "#f0b060"), ("#0f8a5f", "#4cc79a"), ("#be185d", "#f472b6"),
    ("#6d28d9", "#b79df5"), ("#0e7490", "#5cc8dc"), ("#4d7c0f", "#a3cf5a"), ("#6b7280", "#c3c9d2"),
]  # fmt: skip
DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "4 4", "1 4", "14 3 2 3 2 3"]


def steps(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every power of ten, so that the values lie between the first and the last."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    every = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    start = max(step for step in every if step <= low)
    return [step for step in every if start <= step <= min(s for s in every + [10 ** (powers[-1] + 1)] if s >= high)]


def linear_steps(high: float) -> list[float]:
    """From zero, some five of them."""
    size = 10.0 ** math.floor(math.log10(high / 4 or 1))
    size = next(size * factor for factor in (1, 2, 5, 10) if high / (size * factor) <= 6)
    return [size * n for n in range(math.ceil(high / size) + 1)]


def chart(data: dict, title: str, what: str, lines: list[tuple[str, str]], unit: str, scale: float, log: bool) -> str:
    """A picture of figures against connections, whose axis is logarithmic."""
    drawn = []
    for name, path in lines:
        values = [(point["connections"], value_at(point, path)) for point in data["points"]]
        # Noise of few connections may be below nothing, which has no place on the page.
        values = [(count, value / scale) for count, value in values if value is not None and value > 0]
        if values:
            drawn.append((name, values))
    if not drawn:
        return ""
    counts = sorted({count for _, values in drawn for count, _ in values})
    every = [value for _, values in drawn for _, value in values]
    ticks = steps(min(every), max(every)) if log else linear_steps(max(every))
    left, top, width, height = 70, 50, 520, 300
    bottom, right = top + height, left + width

    def x(count: float) -> float:
        low, high = math.log10(counts[0]), math.log10(counts[-1])
        return left + (width * (math.log10(count) - low) / (high - low) if high > low else width / 2)

    def y(value: float) -> float:
        if log:
            low, high = math.log10(ticks[0]), math.log10(ticks[-1])
            return bottom - height * (math.log10(value) - low) / ((high - low) or 1)
        return bottom - height * value / ticks[-1]

    said = "; ".join(f"{name}: " + ", ".join(f"{digits(value)} at {count:,}" for count, value in values) for name, values in drawn)
    style = [STYLE]
    for index, (light, dark) in enumerate(COLOURS[: len(drawn)]):
        style.append(f"    .c{index} {{ stroke: {light} }} .d{index} {{ fill: {light} }}")
        style.append(f"    @media (prefers-color-scheme: dark) {{ .c{index} {{ stroke: {dark} }} .d{index} {{ fill: {dark} }} }}")
    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 410" width="860" height="410" role="img" '
        'aria-labelledby="title description">',
        f'  <title id="title">{title}</title>',
        f'  <desc id="description">{what}. {said}.</desc>',
        "  <style>", *style, "  </style>",
        f'  <text x="{left}" y="24">{what}</text>',
    ]  # fmt: skip
    for tick in ticks:
        out.append(f'  <path class="grid" d="M{left} {y(tick):.1f}H{right}"/>')
        label = f"{tick:,.0f}" if tick >= 1 else f"{tick:g}"
        out.append(f'  <text class="small" x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{label}</text>')
    for count in counts:
        out.append(f'  <path class="grid" d="M{x(count):.1f} {top}V{bottom}"/>')
        out.append(f'  <text class="small" x="{x(count):.1f}" y="{bottom + 20}" text-anchor="middle">{count:,}</text>')
    out.append(f'  <path class="axis" d="M{left} {top}V{bottom}H{right}" fill="none"/>')
    out.append(f'  <text class="small" x="{left + width / 2:.0f}" y="{bottom + 42}" text-anchor="middle">connections</text>')
    out.append(f'  <text class="small" x="{left - 8}" y="{top - 12}" text-anchor="end">{unit}</text>')
    for index, (name, values) in enumerate(drawn):
        dash = f' stroke-dasharray="{DASHES[index]}"' if DASHES[index] else ""
        points = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in values)
        out.append(f'  <polyline class="line c{index}"{dash} points="{points}"/>')
        out += [f'  <circle class="dot d{index}" cx="{x(c):.1f}" cy="{y(v):.1f}" r="3"/>' for c, v in values]
        at = top + 14 + index * 24
        out.append(f'  <path class="line c{index}"{dash} d="M{right + 20} {at - 4}h34"/>')
        out.append(f'  <text class="small" x="{right + 62}" y="{at}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])


def pictures(data: dict) -> dict[str, str]:
    """The pictures by their files' names."""
    return {
        "curves-cpu.svg": chart(data, "CPU and connections", "CPU of the gateways for each unit", CPU_LINES, "µs", 1, True),
        "curves-memory.svg": chart(
            data, "Memory and connections", "Memory of an idle connection", MEMORY_LINES, "bytes", 1, False
        ),
        "curves-latency.svg": chart(
            data, "Latency and connections", "Latency, with so many connections open", LATENCY_LINES, "ms", 1000, True
        ),
    }


def capacity(page: str) -> dict[str, str]:
    """The output of each capacity.py command that the page shows."""
    found = {}
    for command in re.findall(r"^\$ scripts/(capacity\.py.*)$", page, re.M):
        run = subprocess.run([sys.executable, *command.split()], cwd=ROOT / "scripts", text=True, capture_output=True)
        if run.returncode:
            raise SystemExit(f"curves_docs.py: {run.stderr.strip()}")
        found[command] = run.stdout
    return found


def filled(page: str, data: dict) -> str:
    """The page with its tables renewed."""
    for name, text in (("table", table(data)), ("machine", machine(data))):
        mark = re.compile(rf"(<!-- curves: {name} -->\n).*?(<!-- curves: end -->)", re.S)
        if not mark.search(page):
            raise SystemExit(f"curves_docs.py: {PAGE} has no place for the {name}")
        page = mark.sub(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", page)
    for command, output in capacity(page).items():
        page = re.sub(
            rf"(^\$ scripts/{re.escape(command)}\n).*?(^```$)", lambda m, o=output: m[1] + o + m[2], page, flags=re.S | re.M
        )
    return page


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="curves_docs.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="change nothing, and say what differs")
    parser.add_argument("--table", action="store_true", help="print the table alone")
    args = parser.parse_args()
    if args.check and args.file:
        parser.error("--check takes no file")
    source = args.file or DATA
    try:
        text = source.read_text()
        data = json.loads(text)
        if args.table:
            print(table(data))
            return 0
        if data["failures"]:
            parser.error(f"{source}: a run in which something failed is not for the documentation")
        if not data.get("complete"):
            parser.error(f"{source}: a part of the figures is not for the documentation")
        if data["quick"]:
            parser.error(f"{source}: the figures of --quick mean nothing")
        wanted = {ROOT / "docs/images" / name: picture for name, picture in pictures(data).items()}
    except OSError as error:
        parser.error(f"cannot read {source}: {error.strerror}")
    except (ValueError, KeyError, TypeError) as error:
        parser.error(f"{source} is no result of curves.py: {error!r}")
    if not args.check:
        DATA.parent.mkdir(exist_ok=True)
        # First, since capacity.py reads it.
        DATA.write_text(text)
    wanted[PAGE] = filled(PAGE.read_text(), data)
    differing = [path for path, content in wanted.items() if not path.exists() or path.read_text() != content]
    for path in differing:
        print(path.relative_to(ROOT))
        if not args.check:
            path.write_text(wanted[path])
    if args.check and differing:
        print("curves_docs.py: the files above differ from docs/data/curves.json: run scripts/curves_docs.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
