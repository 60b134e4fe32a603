"""The cost curves and the capacity model: measured against real gateways, judged, drawn, and reckoned by hand.

Needs a built gateway ($WSGW_BIN, else target/debug/wsgw), redis-server, redis-cli and openssl. Run with pytest.
"""

from __future__ import annotations

import copy
import json
import os
import pathlib
import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"
WSGW = pathlib.Path(os.environ.get("WSGW_BIN", ROOT / "target/debug/wsgw"))
sys.path.insert(0, str(SCRIPTS))

import capacity  # noqa: E402
import curves  # noqa: E402
import curves_docs  # noqa: E402
from curve_parts import Failed  # noqa: E402


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    for first in range(19000, 30000, count):
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.socket())
                sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sockets[-1].bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for taken in sockets:
                taken.close()
    raise AssertionError("no free ports")


def run(script: str, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess:
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env["WSGW_CURVES_PORT"] = str(free_ports(10))
    command = [sys.executable, str(SCRIPTS / script), *arguments]
    return subprocess.run(command, env=env, text=True, capture_output=True, timeout=timeout)


def measure(out: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    return run("curves.py", "--quick", "--no-build", "--wsgw", str(WSGW), "--out", str(out), *arguments)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict:
    """Two small points, the second on two gateways."""
    out = tmp_path_factory.mktemp("curves")
    result = measure(out, "--points", "20 50", "--per-gateway", "25")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "50 connections: 2 gateways" in result.stderr
    assert "| connections | 20 | 50 |" in result.stdout
    return json.loads((out / "curves.json").read_text())


def test_every_load_reaches_everyone_on_one_gateway_and_on_several(measured):
    assert [(point["connections"], point["gateways"]) for point in measured["points"]] == [(20, 1), (50, 2)]
    assert (measured["failures"], measured["complete"]) == ([], True)
    for point in measured["points"]:
        connections = point["connections"]
        assert point["idle"]["connect"]["count"] == connections
        assert point["idle"]["gateway_bytes"] > 500
        assert point["idle"]["churn"]["count"] == 40
        for name, count in (
            ("inbound_paced", 100),
            ("inbound_busy", 1000),
            ("inbound_burst", 2000),
            # Each push reaches the connections of every gateway.
            ("fanout_paced", 3 * connections),
            ("fanout_burst", 10 * connections),
        ):
            found = point[name]
            assert (found["count"], found["expected"], found["lost"]) == (count, count, 0), (name, found)
            assert 0 < found["p50_us"] <= found["p99_us"], (name, found)
        # What a push of one tool took to the clients of another goes by their clocks; an hour would be a wrong one.
        assert point["fanout_paced"]["p99_us"] < 60e6
        assert point["rtt_paced"]["count"] == 1000
        assert point["rtt_closed"]["count"] >= connections
        assert point["inbound_burst"]["redis_bytes"] > 100
    assert (measured["push_paced"]["count"], measured["push_burst"]["count"]) == (100, 500)


def test_each_figure_of_the_table_and_the_pictures_is_one_that_is_measured(measured):
    point = measured["points"][0]
    paths = {path for _, path, _ in curves_docs.ROWS}
    for lines in (curves_docs.CPU_LINES, curves_docs.MEMORY_LINES, curves_docs.LATENCY_LINES):
        paths |= {path for _, path in lines}
    # Which is not measured for so few connections.
    paths.discard("idle.kernel_bytes")
    assert [path for path in paths if curves_docs.value_at(point, path) is None] == []
    for name, picture in curves_docs.pictures(measured).items():
        root = ElementTree.fromstring(picture)
        assert root.find("{*}title").text, name
        assert "prefers-color-scheme: dark" in picture
        assert len(root.findall("{*}polyline")) >= 2, name


def test_the_model_reads_what_was_measured(measured, tmp_path):
    file = tmp_path / "curves.json"
    measured = copy.deepcopy(measured)
    measured["points"][0]["idle"]["kernel_bytes"] = 4000
    file.write_text(json.dumps(measured))
    costs = capacity.Costs.read(file, "busy")
    assert costs.connections == 20, "the largest point of one gateway"
    assert costs.inbound_us == measured["points"][0]["inbound_busy"]["cpu_us"]


def test_what_is_lost_fails_the_measuring(tmp_path):
    result = measure(tmp_path, "--points", "20", "--only", "inbound", "--set", "stages.rate_limit.per_second=1")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "messages lost" in result.stderr and "rate_limited" in result.stderr
    assert json.loads((tmp_path / "curves.json").read_text())["failures"]


def test_a_gateway_that_does_not_start_is_told_with_its_words(tmp_path):
    result = measure(tmp_path, "--points", "20", "--only", "rtt", "--set", "server.no_such_key=1")
    assert result.returncode == 1
    assert "gateway 0 does not start" in result.stderr and "no_such_key" in result.stderr
    assert "Traceback" not in result.stderr


def result(**changed) -> dict:
    """What a load tool that lost nothing says."""
    sound = {"unit": "message", "expected": 10, "count": 10, "lost": 0, "duplicate": 0, "reordered": 0}
    return sound | {"seconds": 1.0, "problems": [], "exit": 0} | changed


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"lost": 1, "count": 9}, "1 messages lost"),
        ({"duplicate": 2}, "2 messages duplicate"),
        ({"reordered": 3}, "3 messages reordered"),
        ({"count": 9}, "9 of 10 messages"),
        ({"problems": ["the server ended 1 connection"]}, "the server ended"),
        ({"exit": 1}, "ended with 1"),
    ],
)
def test_any_of_several_results_can_fail_a_load(changed, said):
    assert curves.judge("x", [result(), result()]) == []
    found = curves.judge("x", [result(), result(**changed)])
    assert found and said in " ".join(found)


def test_latencies_of_several_tools_are_one_distribution():
    one = result(latency_counts=[[1.0, 98], [2.0, 1]])
    other = result(latency_counts=[[50.0, 100]], seconds=2.0)
    found = curves.merge([one, other])
    assert (found["p50_us"], found["p99_us"]) == (50.0, 50.0)
    assert curves.merge([one, one])["p50_us"] == 1.0
    assert (found["count"], found["seconds"], found["per_second"]) == (20, 2.0, 10.0)


def test_connections_are_spread_over_as_many_gateways_as_files_allow():
    assert curves.layout(10_000, 16_000, 20_000) == [10_000]
    assert curves.layout(50_000, 16_000, 20_000) == [12_500] * 4
    assert curves.layout(7, 3, 20_000) == [3, 2, 2]
    with pytest.raises(Failed, match="raise `ulimit -Hn`"):
        curves.layout(50_000, 16_000, 2_000)
    with pytest.raises(Failed, match="open files are too few"):
        curves.layout(100, 16_000, 1_024)


def test_what_does_not_fit_into_memory_is_refused_before_anything_starts(tmp_path):
    curves.check_memory(1_000, 2 << 30)
    with pytest.raises(Failed, match=r"50000 connections need about \d+ MiB of memory, and 1024 MiB are available"):
        curves.check_memory(50_000, 1 << 30)
    refused = measure(tmp_path, "--points", "20 140000", "--per-gateway", "1000")
    assert refused.returncode == 1
    assert "140000 connections need" in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", ["curves.py", "curves_docs.py", "capacity.py"])
def test_help_and_wrong_usage(script):
    helped = run(script, "--help")
    assert helped.returncode == 0 and "Exit status" in helped.stdout
    wrong = run(script, "--no-such-option")
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr


def test_wrong_numbers_are_refused():
    assert run("curves.py", "--points", "many").returncode == 2
    assert run("curves.py", "--points", "0").returncode == 2
    assert run("curves.py", "--only", "nothing").returncode == 2
    assert run("capacity.py", "--connections", "0").returncode == 2
    assert run("capacity.py", "--utilisation", "1.5").returncode == 2
    missing = run("capacity.py", "--data", "/nonexistent.json")
    assert missing.returncode == 2 and "cannot read" in missing.stderr


def data(**idle) -> dict:
    """Costs that are easy to reckon with."""
    cost = {"per_second": 1_000_000.0, "cpu_us": 10.0, "redis_cpu_us": 2.0, "redis_bytes": 400.0}
    rest = {"process_bytes": 0, "gateway_bytes": 4096, "kernel_bytes": 4096, "redis_bytes": 1000}
    rest |= {"idle_percent": 1.0, "redis_idle_percent": 0.5, "connect": {"cpu_us": 100.0, "redis_cpu_us": 20.0, "per_second": 20_000.0}}
    point = {"connections": 10_000, "gateways": 1, "idle": rest | idle}
    loads = ("inbound_paced", "inbound_busy", "inbound_burst", "fanout_paced", "fanout_burst")
    point |= {name: copy.copy(cost) for name in loads}
    push = {"cpu_us": 5.0, "redis_cpu_us": 3.0}
    return {"points": [point, {"connections": 50_000, "gateways": 4}], "push_paced": push, "push_burst": push}


def reckoned(tmp_path, *arguments: str, **idle) -> dict:
    file = tmp_path / "data.json"
    file.write_text(json.dumps(data(**idle)))
    done = run("capacity.py", "--data", str(file), "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["need"]


LOAD = (
    "--connections", "1000000", "--messages-per-second", "1000000", "--pushes-per-second", "100", "--fanout", "1000",
    "--connection-seconds", "1000", "--cores", "10", "--utilisation", "0.5", "--memory-gib", "100",
)  # fmt: skip


def test_the_model_by_hand(tmp_path):
    need = reckoned(tmp_path, *LOAD)
    # 1 % of a core for 10,000 is 1 for a million; 1,000 connects of 100 µs; a million messages and 100,000 deliveries
    # of 10 µs; together 12.1 cores, of nodes that may use 5 each, of which reading pushes takes 0.0005.
    assert need["cores"]["idle connections"] == pytest.approx(1.0)
    assert need["cores"]["connecting"] == pytest.approx(0.1)
    assert need["cores"]["messages in"] == pytest.approx(10.0)
    assert need["cores"]["deliveries"] == pytest.approx(1.0)
    assert (need["working"], need["nodes"], need["bound"]) == (3, 4, "CPU")
    assert need["cores"]["reading pushes"] == pytest.approx(4 * 100 * 5e-6)
    # Redis: presence 0.5 cores, connects 0.02, messages 2, pushes read by four gateways 0.0012.
    assert need["redis_cores"] == pytest.approx(2.5212)
    assert need["redis_shards"] == 4
    assert need["redis_presence_bytes"] == 1e9
    assert need["redis_stream_bytes"] == 1e6 * 60 * 400
    # A quarter of the connections comes back, on half of what 30 cores have free beside 12.102.
    assert need["lost_connections"] == 250_000
    # That is 89,490 a second, and each was only seen to take 20,000.
    assert need["reconnects_a_second"] == pytest.approx(3 * 20_000)
    assert need["back_seconds"] == pytest.approx(250_000 / 60_000)
    faster = reckoned(tmp_path, *LOAD, "--speedup", "10")
    assert faster["reconnects_a_second"] == pytest.approx((30 - 12.102) / 100e-6 * 0.5)
    # 108 bytes and one packet's 90.
    assert need["clients_in_bits"] == pytest.approx(1e6 * 198 * 8)
    assert need["clients_out_bits"] == pytest.approx(1e5 * 198 * 8)
    assert need["node_memory"] == pytest.approx(1e6 / 3 * 8192)


def test_whatever_is_scarce_decides(tmp_path):
    small = reckoned(tmp_path, *LOAD[:-1], "2")
    # 1.4 GiB of 2 for connections of 8 KiB: 183,500 fit a node.
    assert (small["working"], small["bound"]) == (6, "memory")
    few = reckoned(tmp_path, *LOAD, "--open-files", "100000")
    assert (few["working"], few["bound"]) == (10, "open files")
    # Of a million a second that were measured each is taken to do 200,000.
    slow = reckoned(tmp_path, *LOAD, "--speedup", "0.2")
    assert (slow["working"], slow["bound"]) == (5, "the measured rate of messages")
    pushing = reckoned(tmp_path, *LOAD, "--speedup", "0.2", "--messages-per-second", "0", "--fanout", "20000")
    assert (pushing["working"], pushing["bound"]) == (10, "the measured rate of deliveries")
    more = reckoned(tmp_path, *LOAD, kernel_bytes=5000)
    assert more["node_memory"] == pytest.approx(1e6 / 3 * 9096)


def test_reading_every_push_bounds_what_more_gateways_can_do(tmp_path):
    file = tmp_path / "data.json"
    file.write_text(json.dumps(data()))
    done = run("capacity.py", "--data", str(file), *LOAD, "--pushes-per-second", "2000000")
    assert done.returncode == 2 and "split the outbox" in done.stderr


def test_the_documentation_shows_what_was_measured_and_reckoned():
    done = run("curves_docs.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_run_that_failed_gets_into_the_documentation(tmp_path, measured):
    file = tmp_path / "curves.json"
    for changed, said in (
        ({"failures": ["lost"]}, "failed"),
        ({"quick": True}, "--quick"),
        ({"complete": False}, "a part"),
    ):
        file.write_text(json.dumps(measured | {"quick": False} | changed))
        done = run("curves_docs.py", str(file))
        assert done.returncode == 2 and said in done.stderr
