"""Checks what docs/operations/ gives to operators: alerts, dashboard, runbook, scrape configuration.

Prometheus itself judges: promtool the files, a running one every query, against a gateway under traffic.

Needs scripts/requirements.txt, pytest and PyYAML installed, and Prometheus, Redis and a built gateway (`WSGW_BIN`
names another).
"""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import time
from typing import Iterator

import pytest
import yaml

from operations_stack import API_KEY, ROOT, Clients, Stack, eventually, fetch, refused, token

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


def rules() -> list[dict]:
    groups = yaml.safe_load((OPERATIONS / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict]:
    named = [(rule["alert"], rule) for rule in rules() if "alert" in rule]
    assert len(named) == len(dict(named)), "two alerts have one name"
    return dict(named)


def dashboard() -> dict:
    return json.loads((OPERATIONS / "dashboard.json").read_text())


def panels() -> list[dict]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def entries() -> dict[str, str]:
    """The runbook's entries by the names of their alerts."""
    parts = re.split(r"^### (\w+)$", RUNBOOK.read_text(), flags=re.M)[1:]
    assert len(parts[::2]) == len(set(parts[::2])), "two entries have one name"
    return dict(zip(parts[::2], (re.split(r"^## ", text, flags=re.M)[0] for text in parts[1::2])))


def test_prometheus_accepts_the_files() -> None:
    promtool("check", "rules", "alerts.yaml")
    promtool("check", "config", "prometheus.yaml")


@pytest.mark.parametrize("file", ["alerts_test.yaml", "alerts_slow_test.yaml"])
def test_alerts_fire_when_they_should_and_only_then(file: str) -> None:
    promtool("test", "rules", file)


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
    # A family is named as `wsgw_x_…`; what has a colon is recorded by a rule.
    pattern = r"(?<![:\w./-])(?:wsgw|ws|process|publish|replay_api|webhook_publish|broker_publish|rabbitmq_replay)_\w+(?![:\w])"
    for path in SOURCES:
        named = set(re.findall(pattern, path.read_text())) - {"wsgw_bucket"}
        unknown = {name for name in named if re.sub(r"_(bucket|count|sum)$", "", name) not in known and name not in known}
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
        for step in range(60):
            assert running.call("gateway", "/internal/publish", {"subjects": ["user:1"], "payload": step})[0] == 200
            running.push_by_redis('{"subjects":["user:2"],"payload":1}')
            if step % 10 == 0:
                fetch(f"http://127.0.0.1:{running.gateways['gateway']}/ws")
                refused(running.websocket(), token("1", other))
            time.sleep(0.2)
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
