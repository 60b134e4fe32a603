"""Whether the memory of a run is flat: the samples, and what is made of them."""

from __future__ import annotations

import csv
import pathlib
import statistics
from dataclasses import dataclass

COLUMNS = [
    "seconds", "steady", "pss_kib", "anon_kib", "rss_kib", "fds", "threads", "connections", "pending_events",
    "waiting_pushes", "generations", "cpu_seconds",
]
# What may be added in an hour.
PERCENT_AN_HOUR = 5.0
# Of a shorter run a slope says nothing.
MOST_BINS, FEWEST_BINS = 120, 8

HOW = f"""\
The first third of the time is warm-up. Of the rest only samples at equal load count: none from a broker's restart until
ten seconds after it. They are put into up to {MOST_BINS} bins, each of which counts by its median.

  slope   Theil-Sen: the median of the slopes between all pairs of bins, in percent of the memory an hour
  rise    from the median of the first quarter of the bins to that of the last, in percent

Memory is flat unless the slope is above {PERCENT_AN_HOUR:g} % an hour and the rise above what a run of this length cannot tell
from warm-up: 1 %, and 400 % divided by the seconds judged (2.3 % in five minutes, 1.2 % in forty)."""


@dataclass
class Verdict:
    """What became of the memory, in KiB and percent."""

    start: float
    first: float
    last: float
    seconds: float
    slope: float
    rise: float
    allowed_rise: float
    flat: bool
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.start / 1024:.1f} MiB at the start, {self.first / 1024:.1f} after warm-up, {self.last / 1024:.1f} at "
            f"the end; {self.slope:+.1f} % an hour, rise {self.rise:+.2f} % of {self.allowed_rise:.2f} allowed"
        )


def read_samples(path: pathlib.Path) -> list[dict[str, float]]:
    """The samples of a CSV file. Raises ValueError for one that is none."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        missing = {"seconds", "steady", "pss_kib"} - set(rows.fieldnames or [])
        if missing:
            raise ValueError(f"{path} has no column {', '.join(sorted(missing))}")
        return [{name: float(value) for name, value in row.items()} for row in rows]


def write_samples(path: pathlib.Path, samples: list[dict[str, float]]) -> None:
    """Writes the CSV file."""
    with path.open("w", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS)
        rows.writeheader()
        rows.writerows({name: f"{sample[name]:.8g}" for name in COLUMNS} for sample in samples)


def judge(samples: list[dict[str, float]]) -> Verdict:
    """Says whether memory is flat. Raises ValueError where there are too few samples."""
    end = max((sample["seconds"] for sample in samples if sample["steady"]), default=0.0)
    judged = [(s["seconds"], s["pss_kib"]) for s in samples if s["steady"] and s["seconds"] >= end / 3]
    if len(judged) < FEWEST_BINS:
        raise ValueError(f"{len(judged)} samples at equal load are too few to judge memory by")
    bins = binned(judged, min(MOST_BINS, len(judged)))
    middle = statistics.median(memory for _, memory in bins)
    slope = theil_sen(bins) * 3600 / middle * 100
    quarter = max(1, len(bins) // 4)
    first = statistics.median(memory for _, memory in bins[:quarter])
    last = statistics.median(memory for _, memory in bins[-quarter:])
    rise = (last - first) / first * 100
    seconds = judged[-1][0] - judged[0][0]
    allowed = 1 + 400 / max(seconds, 1)
    flat = slope <= PERCENT_AN_HOUR or rise <= allowed
    reason = "" if flat else f"memory grows: {slope:+.1f} % an hour, {rise:+.1f} % between the first and the last quarter"
    return Verdict(samples[0]["pss_kib"], first, last, seconds, slope, rise, allowed, flat, reason)


def binned(points: list[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    """The points as so many medians, each of as many points that follow each other."""
    edges = [len(points) * n // count for n in range(count + 1)]
    parts = [points[begin:end] for begin, end in zip(edges, edges[1:])]
    return [(statistics.median(x for x, _ in part), statistics.median(y for _, y in part)) for part in parts]


def theil_sen(points: list[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs of points."""
    return statistics.median(
        (y2 - y1) / (x2 - x1) for n, (x1, y1) in enumerate(points) for x2, y2 in points[n + 1 :] if x2 > x1
    )
