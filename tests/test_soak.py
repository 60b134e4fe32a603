"""Runs scripts/soak.sh for half a minute against a real gateway, and shows that its checks can fail.

Needs scripts/requirements.txt installed, redis-server and openssl, and target/debug/wsgw or what `WSGW_BIN` names.
"""

from __future__ import annotations

import csv
import json
import math
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from soak import judge, picture  # noqa: E402
from soak.files import changed  # noqa: E402
from soak.ledger import Ledger, Sequences  # noqa: E402
from soak.servers import Failure  # noqa: E402

SOAK = str(ROOT / "scripts/soak.sh")
BINARY = os.environ.get("WSGW_BIN") or str(ROOT / "target/debug/wsgw")
TIMEOUT_SECONDS = 240
SVG = "{http://www.w3.org/2000/svg}"


def run(*arguments: str) -> subprocess.CompletedProcess:
    """Runs the script to its end."""
    return subprocess.run([SOAK, *arguments], text=True, capture_output=True, timeout=TIMEOUT_SECONDS)


def left_behind(out: pathlib.Path) -> list[str]:
    """Processes that were started for a run in this directory and still are there."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(out) in command and "soak.sh" not in command:
            found.append(command)
    return found


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess, pathlib.Path]:
    """A run of 25 seconds, which all tests of what it leaves share."""
    out = tmp_path_factory.mktemp("soak")
    return run("--minutes", "0.42", "--bin", BINARY, "--out", str(out)), out


def test_nothing_is_lost_and_everything_was_tried(soaked) -> None:
    result, out = soaked
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1].startswith("ok "), result.stdout
    facts = json.loads((out / "soak.json").read_text())
    assert facts["ok"] and facts["faults"] == []
    counts = facts["counts"]
    for what in (
        "messages read", "messages refused", "pushes by Redis", "pushes by HTTP", "pushes received", "pushes that are none",
        "reloads", "invalid files refused", "restarts of Redis by SIGTERM", "restarts of Redis by SIGKILL", "slow readers",
        "floods", "bad tokens", "bad requests", "protocol violations", "disconnected by the backend", "left by close",
        "left by reset", "left by vanish", "left by in flight", "closed by 4408", "closed by 4403", "binary read",
    ):
        assert counts.get(what, 0) > 0, f"{what}: {counts}"
    assert counts["connected"] == counts["disconnected"]
    assert left_behind(out) == []


def test_the_samples_are_those_of_every_second(soaked) -> None:
    _, out = soaked
    with (out / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == judge.COLUMNS
    seconds = [float(row["seconds"]) for row in rows]
    assert len(rows) >= 20 and seconds == sorted(seconds)
    steady = [row for row in rows if row["steady"] == "1"]
    assert 5 < len(steady) < len(rows)
    assert all(float(row["pss_kib"]) > 1000 and float(row["fds"]) > 5 for row in rows)
    assert max(float(row["connections"]) for row in rows) > 20
    assert float(rows[-1]["connections"]) == 0
    assert float(rows[-1]["cpu_seconds"]) > float(rows[0]["cpu_seconds"])
    judged = run("--judge", str(out / "samples.csv"))
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_the_picture_has_every_sample(soaked) -> None:
    _, out = soaked
    samples = judge.read_samples(out / "samples.csv")
    first = (out / "soak.svg").read_text()
    curves = check_picture(first, samples)
    assert set(curves) == {"pss", "anon", "connections", "fds", "threads", "pending_events"}
    marks = json.loads((out / "soak.json").read_text())["marks"]
    for kind in ("SIGTERM", "SIGKILL", "reload", "invalid"):
        # One more in the legend.
        assert first.count(f'class="{kind}"') == 1 + sum(mark["kind"] == kind for mark in marks)
    (out / "soak.svg").unlink()
    assert run("--draw", str(out)).returncode == 0
    assert (out / "soak.svg").read_text() == first


def check_picture(text: str, samples: list[dict[str, float]]) -> dict[str, list]:
    """Parses the picture, and checks that its curves lie within it and are as long as they should be."""
    root = ElementTree.fromstring(text)
    _, _, width, height = map(float, root.get("viewBox").split())
    curves = {}
    for line in root.iter(f"{SVG}polyline"):
        points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
        assert points == sorted(points, key=lambda point: point[0])
        curves[line.get("data-of")] = points
    size = math.ceil(len(samples) / picture.MOST_POINTS)
    assert {len(points) for points in curves.values()} == {math.ceil(len(samples) / size)}
    return curves


def test_a_long_run_has_a_picture_of_bounded_size() -> None:
    samples = memory(lambda t: 20_000, 86_400)
    curves = check_picture(picture.draw(samples, [], "a <day>"), samples)
    assert len(curves["pss"]) <= picture.MOST_POINTS
    # Constant memory is a level line.
    assert len({y for _, y in curves["pss"]}) == 1


@pytest.mark.parametrize("page", ["docs/images/soak.svg"])
def test_the_picture_of_the_documentation_is_one_of_these(page: str) -> None:
    root = ElementTree.parse(ROOT / page).getroot()
    assert {line.get("data-of") for line in root.iter(f"{SVG}polyline")} >= {"pss", "connections"}
    minutes = int(re.match(r"(\d+) minutes", root.find(f"{SVG}text").text)[1])
    assert minutes >= 20
    assert f"{minutes} minutes" in (ROOT / "docs/performance.md").read_text()


def memory(of, seconds: int) -> list[dict[str, float]]:
    """Samples of a run whose memory is `of(second)` KiB."""
    others = dict.fromkeys(judge.COLUMNS, 1.0)
    return [others | {"seconds": float(t), "pss_kib": of(t)} for t in range(seconds)]


def noisy(of):
    """The same with noise of 2 % and peaks, always the same."""
    chance = random.Random(7)
    return lambda t: of(t) * chance.uniform(0.98, 1.02) * (1.3 if chance.random() < 0.01 else 1)


FLAT = {
    "constant": lambda t: 20_000,
    "noise and peaks": noisy(lambda t: 20_000),
    "a warm-up": lambda t: 12_000 + 8_000 * (1 - math.exp(-t / 120)),
    "a saw": lambda t: 20_000 + t % 300,
    "less and less": lambda t: 20_000 - t,
    "3 % an hour": noisy(lambda t: 20_000 * (1 + 0.03 * t / 3600)),
}
GROWING = {
    "8 % an hour": noisy(lambda t: 20_000 * (1 + 0.08 * t / 3600)),
    # At eight a second.
    "200 bytes a connection": noisy(lambda t: 20_000 + t * 8 * 200 / 1024),
    "steps": lambda t: 20_000 + t // 600 * 500,
}


@pytest.mark.parametrize("name", FLAT)
def test_flat_memory_passes(name: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "samples.csv"
    judge.write_samples(path, memory(FLAT[name], 3600))
    result = run("--judge", str(path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("ok")


@pytest.mark.parametrize("name", GROWING)
def test_growing_memory_fails(name: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "samples.csv"
    judge.write_samples(path, memory(GROWING[name], 3600))
    result = run("--judge", str(path))
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stdout.startswith("FAILED")


def test_what_waits_while_a_broker_is_away_is_not_judged() -> None:
    def of(t: int) -> float:
        return 90_000 if t > 3000 and t % 100 < 30 else 20_000

    samples = memory(of, 3600)
    for sample in samples:
        sample["steady"] = float(sample["pss_kib"] == 20_000)
    assert judge.judge(samples).rise == 0


def test_slopes_are_those_of_theil_and_sen() -> None:
    line = [(float(x), 3.0 * x + 5) for x in range(20)]
    assert judge.theil_sen(line) == 3.0
    # A quarter of wild points moves it nowhere.
    assert judge.theil_sen([(x, 1e6 if x % 5 == 0 else y) for x, y in line]) == pytest.approx(3.0, abs=0.5)


def test_samples_that_are_none_are_told_in_a_line(tmp_path: pathlib.Path) -> None:
    few, other = tmp_path / "few.csv", tmp_path / "other.csv"
    judge.write_samples(few, memory(lambda t: 1, 5))
    other.write_text("a,b\n1,2\n")
    for path, word in ((few, "too few"), (other, "pss_kib"), (tmp_path / "none.csv", "No such file")):
        result = run("--judge", str(path))
        assert result.returncode == 1
        assert word in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr


def event(kind: str, seq: int, **more) -> dict:
    """An event of connection c."""
    return {"type": kind, "event_id": f"{kind} {seq}", "connection_id": "c", "seq": seq} | more


def message(seq: int, name: str) -> dict:
    """A message of connection c."""
    return event("message_received", seq, message={"id": name})


def faults(*events: dict, outage: bool = False, taken: tuple[str, ...] = ("m1", "m2")) -> set[str]:
    """What the books say of these events, where two messages were sent."""
    ledger = Ledger()
    for name in (ledger.new_id(), ledger.new_id()):
        ledger.sent(name)
    for name in taken:
        ledger.taken(name)
    if outage:
        ledger.outages.append([1000.0, 2000.0])
    for one in events:
        ledger.arrived(1500, one)
    found = {fault.partition(":")[0] for fault in ledger.faults}
    return found | ({"messages lost"} if ledger.missing() else set()) | ({"incomplete"} if ledger.connections else set())


CONNECTED, FIRST, SECOND = event("connected", 1), message(2, "m1"), message(3, "m2")
GONE = event("disconnected", 4, close_code=1000)


def test_the_books_find_what_is_wrong() -> None:
    assert faults(CONNECTED, FIRST, SECOND, GONE) == set()
    # The streams are read one after the other.
    assert faults(FIRST, SECOND, CONNECTED, GONE) == set()
    assert faults(CONNECTED, GONE, FIRST, SECOND) == set()
    assert faults(CONNECTED, FIRST, GONE) == {"messages lost", "incomplete"}
    assert faults(CONNECTED, FIRST, event("disconnected", 3, close_code=1000), taken=("m1",)) == set()
    assert faults(CONNECTED, FIRST, SECOND) == {"incomplete"}
    assert faults(FIRST, SECOND, GONE) == {"incomplete"}
    assert faults(CONNECTED, FIRST, FIRST, SECOND, GONE) == {"doubled without a restart"}
    assert faults(CONNECTED, FIRST, FIRST, SECOND, GONE, outage=True) == set()
    assert faults(CONNECTED, message(3, "m1"), message(2, "m2") | {"event_id": "x"}, GONE) == {"lost or out of order"}
    assert faults(CONNECTED, FIRST, message(3, "m1"), GONE) == {"published twice", "messages lost"}
    assert faults(CONNECTED, FIRST, SECOND, message(4, "m9"), GONE | {"seq": 5}) == {"came from nowhere"}
    ledger = Ledger()
    ledger.sent("m1")
    ledger.refused("m1")
    assert not ledger.faults
    ledger.arrived(0, FIRST)
    assert ledger.faults == ["came from nowhere: m1"]


def test_the_books_find_pushes_that_are_lost_or_doubled() -> None:
    def got(*numbers: int, from_the_first: bool = True) -> list[str]:
        ledger = Ledger()
        client = Sequences(ledger, "a", from_the_first)
        for number in numbers:
            client.got({"sequence": "redis to everyone", "n": number})
        return [fault.partition(":")[0] for fault in ledger.faults]

    assert got(1, 2, 3) == []
    assert got(5, 6, from_the_first=False) == []
    assert got(2) == ["pushes lost"]
    assert got(1, 2, 4, 5) == ["pushes lost"]
    assert got(1, 2, 2, 3) == ["pushes doubled"]
    assert got(1, 3, 2, 4) == ["pushes lost", "pushes doubled"]


def test_a_pipeline_that_is_not_as_expected_is_told() -> None:
    with pytest.raises(Failure, match="'b' 0 times"):
        changed("a", [("b", "c")])


def test_a_gateway_that_dies_fails_the_run(tmp_path: pathlib.Path) -> None:
    mortal = tmp_path / "mortal"
    mortal.write_text(f'#!/bin/sh\n"{BINARY}" "$@" &\nsleep 6\nkill -9 $!\n')
    mortal.chmod(0o755)
    out = tmp_path / "out"
    result = run("--minutes", "2", "--bin", str(mortal), "--out", str(out))
    assert result.returncode == 1, result.stdout + result.stderr
    assert "FAILED  the gateway: is gone" in result.stdout
    assert left_behind(out) == []


def test_ctrl_c_ends_the_load_and_judges_what_there_is(tmp_path: pathlib.Path) -> None:
    with subprocess.Popen(
        [SOAK, "--minutes", "10", "--bin", BINARY, "--out", str(tmp_path)], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as soak:
        give_up = time.monotonic() + TIMEOUT_SECONDS
        file = tmp_path / "gateway.yaml"
        # The second file is in place, so that the load is on.
        while not (file.exists() and "SOAK_LOG_LEVEL" in file.read_text()):
            if time.monotonic() > give_up or soak.poll() is not None:
                soak.kill()
                pytest.fail("the run does not begin")
            time.sleep(0.1)
        soak.send_signal(signal.SIGINT)
        text, _ = soak.communicate(timeout=TIMEOUT_SECONDS)
    assert soak.returncode == 130, text
    assert json.loads((tmp_path / "soak.json").read_text())["interrupted"]
    assert left_behind(tmp_path) == []


def test_help_and_wrong_usage() -> None:
    shown = run("--help").stdout
    for word in ("usage:", "Theil-Sen", "kill -9", "Exit status", "samples.csv", "5 % an hour"):
        assert word in shown
    assert run("--minutes", "0").returncode == 2
    assert run("--mintues", "1").returncode == 2
    result = run("--bin", "/nonexistent/wsgw")
    assert (result.returncode, result.stderr) == (1, "soak.sh: /nonexistent/wsgw is no program\n")
