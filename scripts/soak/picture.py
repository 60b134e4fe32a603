"""The picture of a run: its curves over time as an SVG, readable on light and dark ground."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from html import escape

WIDTH, LEFT, RIGHT = 980, 66, 16
PLOT = WIDTH - LEFT - RIGHT
# A curve has no more points than can be told apart.
MOST_POINTS = 450

STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2937 }
    .title { font-size: 15px; font-weight: 600 }
    .small { font-size: 12px; fill: #4b5563 }
    .axis { stroke: #6b7280; fill: none }
    .grid { stroke: #e5e7eb }
    .warm { fill: #f3f4f6 }
    .curve { fill: none; stroke-width: 1.6; stroke-linejoin: round }
    .a { stroke: #2f62c9 } .b { stroke: #0f8a5f } .c { stroke: #9a5b00 }
    text.a { fill: #2f62c9; stroke: none } text.b { fill: #0f8a5f; stroke: none } text.c { fill: #9a5b00; stroke: none }
    .SIGTERM { stroke: #9ca3af; stroke-dasharray: 4 3 }
    .SIGKILL { stroke: #d14343 }
    .reload { stroke: #6b7280 }
    .invalid { stroke: #d14343; stroke-width: 2 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e5e7eb }
      .small { fill: #b6bdc8 }
      .axis { stroke: #9ca3af }
      .grid { stroke: #374151 }
      .warm { fill: #1a2230 }
      .a { stroke: #7aa5f7 } .b { stroke: #4cc79a } .c { stroke: #e0a850 }
      text.a { fill: #7aa5f7 } text.b { fill: #4cc79a } text.c { fill: #e0a850 }
      .SIGTERM { stroke: #6b7280 }
      .SIGKILL, .invalid { stroke: #f07f7f }
      .reload { stroke: #9ca3af }
    }"""


def draw(samples: list[dict[str, float]], marks: list[dict], title: str) -> str:
    """The picture; `marks` have `seconds` and a `kind`: SIGTERM or SIGKILL of Redis, reload or invalid."""
    end = max(samples[-1]["seconds"], 1.0)
    loaded = max((sample["seconds"] for sample in samples if sample["steady"]), default=end)
    parts = [f'<rect class="warm" x="{LEFT}" y="40" width="{x(loaded / 3, end) - LEFT:.1f}" height="450"/>']
    for mark in marks:
        if mark["kind"] in ("SIGTERM", "SIGKILL"):
            at = x(mark["seconds"], end)
            parts.append(f'<path class="{mark["kind"]}" d="M{at:.1f} 64V490"/>')
    mib = [sample | {"pss": sample["pss_kib"] / 1024, "anon": sample["anon_kib"] / 1024} for sample in samples]
    parts += panel(mib, end, 64, 210, "MiB", [("a", "pss", "memory (Pss)"), ("b", "anon", "of it anonymous")], statistics.median)
    parts += panel(
        samples, end, 308, 90, "",
        [("a", "connections", "connections"), ("b", "fds", "descriptors"), ("c", "threads", "threads")], statistics.median,
    )
    waiting = [("c", "pending_events", "events that wait for Redis, most in an interval")]
    parts += panel(samples, end, 430, 60, "", waiting, max)
    for mark in marks:
        if mark["kind"] in ("reload", "invalid"):
            parts.append(f'<path class="{mark["kind"]}" d="M{x(mark["seconds"], end):.1f} 500v8"/>')
    parts += time_axis(end)
    parts.append(f'<text class="small" x="{LEFT + 6}" y="56">warm-up, not judged</text>')
    parts += legend()
    lines = "\n  ".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 572" width="{WIDTH}" height="572" role="img" '
        f'aria-labelledby="title description">\n  <title id="title">Endurance of the gateway: {escape(title)}</title>\n'
        f'  <desc id="description">{escape(describe(mib, loaded))}</desc>\n  <style>{STYLE}\n  </style>\n'
        f'  <text class="title" x="{LEFT}" y="24">{escape(title)}</text>\n  {lines}\n</svg>\n'
    )


def describe(samples: list[dict[str, float]], loaded: float) -> str:
    """The picture in words."""
    at = [min(samples, key=lambda sample: abs(sample["seconds"] - loaded * part))["pss"] for part in (0, 1 / 3, 2 / 3, 1)]
    return (
        f"Memory of the gateway over {loaded / 60:.0f} minutes: {at[0]:.1f} MiB at the start, {at[1]:.1f} after a third, "
        f"{at[2]:.1f} after two thirds, {at[3]:.1f} at the end of the load. Below: its connections, descriptors and threads, "
        "the events that waited, and when Redis was restarted and files were reloaded."
    )


def x(seconds: float, end: float) -> float:
    """Where a time is."""
    return LEFT + PLOT * seconds / end


def points(samples: list[dict[str, float]], column: str, combine: Callable) -> list[tuple[float, float]]:
    """A curve of at most so many points, each of equally many samples."""
    size = math.ceil(len(samples) / MOST_POINTS)
    parts = [samples[begin : begin + size] for begin in range(0, len(samples), size)]
    return [(part[len(part) // 2]["seconds"], combine(sample[column] for sample in part)) for part in parts]


def panel(
    samples: list[dict[str, float]], end: float, top: int, height: int, unit: str, curves: list[tuple[str, str, str]],
    combine: Callable,
) -> list[str]:
    """Curves over one axis that begins at 0."""
    drawn = [(style, column, points(samples, column, combine), text) for style, column, text in curves]
    most = max(1.0, max(value for *_, line, _ in drawn for _, value in line))
    step = nice(most / (4 if height > 150 else 2))
    most = math.ceil(most / step + 0.05) * step
    parts = []
    for number in range(round(most / step) + 1):
        y = top + height - height * number * step / most
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}h{PLOT}"/>')
        label = f"{number * step:g}" + (f" {unit}" if unit else "")
        parts.append(f'<text class="small" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {top}v{height}h{PLOT}"/>')
    for style, column, line, _ in drawn:
        path = " ".join(f"{x(seconds, end):.1f},{top + height - height * value / most:.1f}" for seconds, value in line)
        parts.append(f'<polyline class="curve {style}" data-of="{column}" points="{path}"/>')
    at = WIDTH - RIGHT
    for style, _, _, text in reversed(drawn):
        parts.append(f'<text class="{style}" x="{at}" y="{top - 8}" text-anchor="end">{text}</text>')
        at -= 8 * len(text) + 14
    return parts


def nice(least: float) -> float:
    """The next of 1, 2, 5, 10, 20, …"""
    power = 10 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * 0.999)


def time_axis(end: float) -> list[str]:
    """Minutes, or seconds for a short run."""
    unit, name = (60, "min") if end > 180 else (1, "s")
    step = max(1, nice(end / unit / 12))
    ticks = [number * step for number in range(int(end / unit / step) + 1)]
    return [
        f'<text class="small" x="{x(tick * unit, end):.1f}" y="526" text-anchor="middle">'
        + (f"{tick:g} {name}</text>" if tick else "0</text>")
        for tick in ticks
    ]


def legend() -> list[str]:
    """What the marks mean."""
    parts, at = [], LEFT
    for kind, text in [
        ("SIGTERM", "Redis restarted by SIGTERM"), ("SIGKILL", "by kill -9"),
        ("reload", "file reloaded"), ("invalid", "invalid file refused"),
    ]:
        shape = "M{} 556h18" if kind.startswith("SIG") else "M{} 552v8"
        begin = at if kind.startswith("SIG") else at + 9
        parts.append(f'<path class="{kind}" d="{shape.format(begin)}"/>')
        parts.append(f'<text class="small" x="{at + 26}" y="560">{text}</text>')
        at += 60 + 7 * len(text)
    return parts
