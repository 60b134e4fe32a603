"""Checks what docs/operations/ gives to operators: alerts, dashboard, runbook, scrape configuration.

Prometheus itself judges: promtool the files, a running one every query, against a gateway under traffic.

Needs scripts/requirements.txt, pytest and PyYAML installed, and Prometheus, Redis and a built gateway (`WSGW_BIN`
names another).
"""

from __future__ import annotations

import functools
import json
import pathlib
import re
import signal
import subprocess
import time
from typing import Iterator

import pytest
import yaml

from operations_stack import ROOT, Clients, Stack, eventually, fetch, refused, repeated, token

OPERATIONS = ROOT / "docs/operations"
RUNBOOK = OPERATIONS / "runbook.md"
SOURCES = [OPERATIONS / name for name in ("alerts.yaml", "dashboard.json", "runbook.md")]

# Queries that a gateway with webhook and Redis, but without these parts, has no series for.
NO_SERIES = {
    "wsgw_invalid_messages_total": "no stage validate",
    "wsgw_duplicate_messages_total": "no stage dedupe",
    "ALERTS": "nothing is wrong",
}


def promtool(*arguments: str, given: str | None = None) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=OPERATIONS, input=given, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and not done.stderr, f"promtool {' '.join(arguments)}\n{done.stdout}{done.stderr}"


@functools.cache
def rules() -> list[dict]:
    groups = yaml.safe_load((OPERATIONS / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict]:
    named = [(rule["alert"], rule) for rule in rules() if "alert" in rule]
    assert len(named) == len(dict(named)), "two alerts have one name"
    return dict(named)


@functools.cache
def dashboard() -> dict:
    return json.loads((OPERATIONS / "dashboard.json").read_text())


def panels() -> list[dict]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def entries() -> dict[str, str]:
    """The runbook's entries by the names of their alerts."""
    parts = re.split(r"^### (\w+)$", RUNBOOK.read_text(), flags=re.M)[1:]
    assert len(parts[::2]) == len(set(parts[::2])), "two entries have one name"
    return dict(zip(parts[::2], (re.split(r"^## ", text, flags=re.M)[0] for text in parts[1::2])))


@pytest.fixture(scope="module", autouse=True)
def rule_tests() -> Iterator[dict[str, subprocess.Popen]]:
    """The tests of the rules, which run while other tests wait for a gateway."""
    running = {
        path.name: subprocess.Popen(
            ["promtool", "test", "rules", path.name], cwd=OPERATIONS, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for path in sorted(OPERATIONS.glob("*_test.yaml"))
    }
    yield running
    for process in running.values():
        process.kill()
        process.wait()


def test_prometheus_accepts_the_files() -> None:
    promtool("check", "rules", "alerts.yaml")
    promtool("check", "config", "prometheus.yaml")


def test_every_alert_is_seen_to_fire() -> None:
    tests = "".join(path.read_text() for path in OPERATIONS.glob("*_test.yaml"))
    assert set(re.findall(r'alertname="(\w+)"', tests)) == set(alerts())


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_is_needed(name: str) -> None:
    alert = alerts()[name]
    assert alert["labels"] in ({"severity": "page"}, {"severity": "ticket"})
    notes = alert["annotations"]
    assert list(notes) == ["summary", "description", "runbook_url"]
    assert notes["runbook_url"] == f"docs/operations/runbook.md#{name.lower()}"
    assert len(re.sub(r"\{\{.*?\}\}", "", notes["summary"])) < 80
    assert not notes["summary"].endswith(".") and re.search(r"[.?]$", notes["description"])


def test_the_runbook_has_an_entry_for_each_alert_and_no_others() -> None:
    assert list(entries()) == list(alerts()), "the runbook is in the order of the alerts"
    for name, text in entries().items():
        severity = alerts()[name]["labels"]["severity"]
        assert text.strip().startswith(f"*{severity}*"), f"{name} is a {severity}"
        for part in ("**Means**", "**Who suffers**", "**Look**", "**Do**"):
            assert part in text, f"{name} has no {part}"


def test_every_metric_that_is_named_exists() -> None:
    code = (ROOT / "src/telemetry/metrics.rs").read_text()
    known = set(re.findall(r'^\s+\w+: \w+ = "(\w+)"', code, re.M))
    assert len(known) > 50
    operations = (ROOT / "docs/operations.md").read_text()
    # What has a colon is recorded by a rule.
    pattern = r"(?<![:\w./-])((?:ws|wsgw|process|publish|replay_api|webhook|broker|rabbitmq)_\w+)(?![:\w])"
    for path in SOURCES:
        named = set(re.findall(pattern, path.read_text()))
        if path.suffix == ".md":
            # Those that the prose calls by their names.
            named = {name for name in named if name.startswith(("ws_", "wsgw_")) and f"`{name}`" in path.read_text()}
        unknown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in named} - known
        # Log events of the runbook.
        unknown -= set(re.findall(r"^\| `(\w+)` \| (?:debug|info|warn|error)", operations, re.M))
        assert named and not unknown, f"{path.name}: {sorted(unknown)}"


def test_every_recorded_name_is_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = set()
    for path in SOURCES:
        used |= set(re.findall(r"\b(?:job|instance|wsgw)\w*:\w+:\w+", path.read_text()))
    assert used == recorded


def test_panels_have_ids_and_places_of_their_own() -> None:
    everything = dashboard()["panels"]
    ids = [panel["id"] for panel in everything]
    assert len(ids) == len(set(ids))
    taken: dict[tuple[int, int], str] = {}
    for panel in everything:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']} lies on {taken[cell]}"
            taken[cell] = panel["title"]


def test_panels_explain_themselves() -> None:
    variables = {variable["name"] for variable in dashboard()["templating"]["list"]}
    assert variables == {"datasource", "job", "instance", "runbook"}
    links = set()
    for panel in panels():
        name = panel["title"]
        assert panel["description"].endswith("."), name
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, name
        assert panel["fieldConfig"]["defaults"]["unit"], name
        for query in panel["targets"]:
            assert "$job" in query["expr"], f"{name}: {query['expr']}"
        links |= {link["url"] for link in panel.get("links", [])}
    assert links == {f"${{runbook}}#{name.lower()}" for name in alerts()}, "each alert has a panel to look at"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A healthy gateway under a little traffic of each kind, and a Prometheus that has seen some of it."""
    running = Stack(tmp_path_factory.mktemp("operations"))
    clients = None
    try:
        running.start_redis()
        running.start_gateway()
        running.start_prometheus((OPERATIONS / "alerts.yaml").read_text())
        clients = Clients(running.websocket(), 5, {"type": "chat", "payload": "hello"})
        other = (ROOT / "tests/keys/rsa_other.pem").read_text()
        for step in range(40):
            assert running.call("gateway", "/internal/publish", {"subjects": ["user:1"], "payload": step})[0] == 200
            running.push_by_redis('{"subjects":["user:2"],"payload":1}')
            if step % 10 == 0:
                fetch(f"http://127.0.0.1:{running.gateways['gateway']}/ws")
                refused(running.websocket(), token("1", other))
            time.sleep(0.15)
        eventually("a scrape of all that", lambda: running.query("rate(ws_messages_total[10s]) > 0"))
        yield running
    finally:
        if clients:
            clients.stop()
        running.leave()


def test_the_metrics_are_well_formed(stack: Stack) -> None:
    status, text = stack.get("gateway", "/metrics")
    assert status == 200
    promtool("check", "metrics", given=text)


def with_variables(expression: str) -> str:
    for variable, value in (("$__rate_interval", "20s"), ("$job", "wsgw"), ("$instance", ".+")):
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


def test_every_panel_shows_something(stack: Stack) -> None:
    empty = {}
    for panel in panels():
        for query in panel["targets"]:
            expression = with_variables(query["expr"])
            if not stack.query(expression) and not any(metric in expression for metric in NO_SERIES):
                empty[panel["title"]] = expression
    assert not empty


def test_variables_and_annotations_have_values(stack: Stack) -> None:
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"]).groups()
            assert any(result["metric"].get(label) for result in stack.query(with_variables(series))), variable["name"]
    for annotation in dashboard()["annotations"]["list"]:
        stack.query(with_variables(annotation["expr"]))


def test_a_healthy_gateway_has_good_rules_and_no_alert(stack: Stack) -> None:
    bad = [(rule["name"], rule["lastError"]) for rule in stack.rules() if rule["health"] != "ok"]
    assert not bad and len(stack.rules()) == len(rules())
    assert not stack.firing()
    pending = {rule["name"] for rule in stack.rules() if rule.get("alerts")}
    assert not pending, pending


def quick(text: str) -> str:
    """The rules with every duration a sixtieth: minutes are seconds."""
    text = re.sub(r"(?<![\w:])(\d+)m\b", r"\1s", text)
    text = re.sub(r"(?<![\w:])(\d+)h\b", r"\1m", text)
    for long, short in (("- 600", "- 10"), ("* 600 *", "* 10 *"), ("1800)", "30)"), ("_seconds > 60", "_seconds > 1")):
        assert long in text, long
        text = text.replace(long, short)
    return text


class Trouble:
    """A fleet of two gateways, on which faults are provoked one after the other."""

    def __init__(self, home: pathlib.Path):
        self.stack = Stack(home)
        self.clients: list[Clients] = []
        self.seen: dict[str, dict] = {}

    def start(self) -> None:
        pipeline = (ROOT / "pipelines/both.yaml").read_text()
        small = "    redis_stream:\n      buffer: { max_events: 40 }\n      dsn:"
        pipeline, changed = re.subn(r"(?<=  events:\n)    redis_stream:\n      dsn:", small, pipeline)
        assert changed == 1
        self.stack.start_redis()
        for name in ("a", "b"):
            self.stack.start_gateway(
                name, pipeline, WSGW__SERVER__NODE_ID=name, WSGW__LEASES__TTL_SECONDS="2", WEBHOOK_RETRY_ATTEMPTS="2"
            )
        self.stack.start_prometheus(quick((OPERATIONS / "alerts.yaml").read_text()), "500ms")
        self.join("a", 60)

    def join(self, name: str, count: int) -> None:
        self.clients.append(Clients(self.stack.websocket(name), count, {"type": "chat"}, 0.5))

    def leave(self) -> None:
        for clients in self.clients:
            clients.stop()
        self.clients.clear()

    def expect(self, *names: str) -> None:
        """Waits until each of these alerts has fired at least once."""

        def all_fired() -> bool:
            self.seen |= self.stack.firing()
            return set(names) <= set(self.seen)

        try:
            eventually("an alert", all_fired, 180)
        except AssertionError:
            pytest.fail(f"only {sorted(self.seen)} fired, not {sorted(set(names) - set(self.seen))}")


def test_alerts_fire_on_real_gateways_in_trouble(tmp_path: pathlib.Path) -> None:
    trouble = Trouble(tmp_path)
    stack = trouble.stack
    other = (ROOT / "tests/keys/rsa_other.pem").read_text()

    def bad_callers() -> None:
        refused(stack.websocket("a"), token("1", other))
        for _ in range(5):
            fetch(f"http://127.0.0.1:{stack.gateways['a']}/ws")
        stack.call("a", "/internal/publish", {"subjects": ["user:1"], "payload": 1}, key="wrong")
        stack.call("a", "/internal/replay/redis", {}, key="wrong")

    try:
        trouble.start()
        eventually("the clients", lambda: stack.query("job:ws_connections:sum >= 60"))
        stack.push_by_redis('{"subjects":7}')
        (stack.home / "a/pipeline.yaml").write_text("snoke_ws: 7\n")
        stack.processes["a"].send_signal(signal.SIGHUP)
        trouble.expect("WsgwPushesMalformed", "WsgwReloadFailed")

        stack.backend.status = 503
        with repeated(bad_callers):
            trouble.expect(
                "WsgwTokensRefused", "WsgwHandshakesRefused", "WsgwApiRefused", "WsgwReplayDenied", "WsgwSinkDown",
                "WsgwRetries", "WsgwDeadLetters", "WsgwDeadLettersMany",
            )

        stack.stop("redis", signal.SIGKILL)
        trouble.expect("WsgwBrokerDown", "WsgwNotReady", "WsgwBufferFull", "WsgwClientsHeldUp", "WsgwEventsLate")
        stack.start_redis()
        eventually("Redis is back", lambda: stack.query("min(wsgw_ready) == 1"))
        # Redis forgot everything; who dies before the next renewal has no lease that could expire.
        eventually("the leases", lambda: {lease.split("/")[0] for lease in stack.leases()} == {"a", "b"})

        stack.stop("b", signal.SIGKILL)
        trouble.expect("WsgwGatewayDown", "WsgwNodeLost")
        trouble.leave()
        trouble.expect("WsgwConnectionsDropped")
        stack.stop("a", signal.SIGKILL)
        trouble.expect("WsgwNoGateway")
        for name, alert in trouble.seen.items():
            texts = " ".join(alert["annotations"].values())
            assert not re.search(r"error expanding|<no value>|\{\{", texts), (name, texts)
    finally:
        trouble.leave()
        stack.leave()


@pytest.mark.parametrize("file", ["alerts_test.yaml", "alerts_slow_test.yaml"])
def test_alerts_fire_when_they_should_and_only_then(file: str, rule_tests: dict[str, subprocess.Popen]) -> None:
    output, _ = rule_tests[file].communicate(timeout=120)
    assert rule_tests[file].returncode == 0 and "SUCCESS" in output, output
