"""Follows messages and pushes through everything by the spans that everybody exports.

The gateway, the Symfony demo, Redis and RabbitMQ are real, and so is the way the spans take: OTLP over HTTP, gRPC and, from
PHP, JSON, to tests/otlp/collector.py. Run by `./scripts/test.sh php`, which installs what it needs.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import pathlib
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request

import jwt
import pytest
from websockets.sync.client import connect

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/otlp"), str(ROOT / "scripts")]

from collector import Collector  # noqa: E402
from trace_tree import draw, fetch, follow  # noqa: E402

STACK = ROOT / "symfony/tests/Support/stack.php"
WAIT_SECONDS = 20
USER = "canary-user-7f3a"
PAYLOAD = "canary-payload-91c2"
OTLP_HEADER = "hunter2-collector-token"


class Stack:
    """The gateway and the demo, by the helper that the demo's own tests use."""

    def __init__(self, kind: str, env: dict[str, str]) -> None:
        self.kind = kind
        self.process = subprocess.Popen(
            ["php", str(STACK), kind],
            env=os.environ | {"STACK_ENV": json.dumps(env)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(WAIT_SECONDS)
            raise AssertionError(f"the {kind} stack does not start")
        self.__dict__.update(json.loads(line))

    def output(self) -> dict[str, str]:
        """What its parts have printed."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self) -> None:
        """Ends all of it."""
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def token(self, user: str = USER) -> str:
        """A token by the demo's key."""
        key = (ROOT / "tests/keys/rsa.pem").read_text()
        return jwt.encode({"user_id": user, "exp": int(time.time()) + 600}, key, "RS256")

    @contextlib.contextmanager
    def client(self, user: str = USER, **headers: str):
        """A connected client."""
        with connect(self.ws, additional_headers={"Authorization": f"Bearer {self.token(user)}", **headers}) as socket:
            yield socket

    def echo(self, socket, **message: str) -> dict:
        """Sends a message that PHP answers by a push, and returns what comes."""
        nonce = secrets.token_hex(8)
        socket.send(json.dumps({"type": "echo", "nonce": nonce, "text": PAYLOAD, **message}))
        while True:
            push = json.loads(socket.recv(WAIT_SECONDS))["payload"]
            if push.get("message", {}).get("nonce") == nonce:
                return push

    def metric(self, name: str) -> float:
        """A counter of the gateway, over all labels."""
        with urllib.request.urlopen(f"{self.gateway}/metrics", timeout=WAIT_SECONDS) as response:
            lines = response.read().decode().splitlines()
        return sum(float(text.rsplit(" ", 1)[1]) for text in lines if text.partition(" ")[0].partition("{")[0] == name)

    def push(self, user: str, **headers: str) -> dict:
        """Has PHP push."""
        request = urllib.request.Request(
            f"{self.app}/api/push-demo/{user}",
            data=json.dumps({"text": PAYLOAD}).encode(),
            headers={"X-Demo-Key": self.secrets["demo"], "Content-Type": "application/json", **headers},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as response:
            return json.load(response)


def tracing(collector: Collector, protocol: str = "http/protobuf", rate: str = "1.0") -> dict[str, str]:
    """What turns tracing on, on both sides."""
    return {
        "TRACING_STRATEGY": "full",
        "TRACING_SAMPLE_RATE": rate,
        "TRACING_EXPORTER": "otlp",
        "OTEL_SERVICE_NAME": "gateway",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.grpc_url if protocol == "grpc" else collector.http_url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{OTLP_HEADER}",
        "WS_TRACING_ENABLED": "1",
        "WS_TRACING_EXPORTER": "otlp",
        "WS_TRACING_ENDPOINT": collector.http_url,
        "WS_TRACING_HEADERS": f"authorization=Bearer%20{OTLP_HEADER}",
        "WS_TRACING_SERVICE_NAME": "shop",
        "WS_TRACING_SAMPLE_RATE": rate,
    }


@contextlib.contextmanager
def running(kind: str, protocol: str = "http/protobuf", rate: str = "1.0", **more: str):
    """A stack and its collector."""
    with Collector().start() as collector:
        stack = Stack(kind, tracing(collector, protocol, rate) | more)
        stack.collector = collector
        stack.protocol = protocol
        try:
            yield stack
        finally:
            stack.stop()


# Every way between the two, and both protocols of the gateway.
KINDS = {"terminator": "http/protobuf", "redis": "grpc", "rabbitmq": "http/protobuf"}


@pytest.fixture(scope="module", params=KINDS)
def stack(request):
    with running(request.param, KINDS[request.param]) as stack:
        yield stack


def client_span() -> tuple[str, str, str]:
    """A new trace of a client: its id, that of the client's span, and the traceparent."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, f"00-{trace}-{span}-01"


# The spans of an event's way to PHP, and of a push's way back: service, name, kind.
EVENT = {
    "terminator": [
        ("gateway", "webhook.publish", "client"),
        ("shop", "POST /internal/ws/events", "server"),
        ("shop", "ws.message_received", "consumer"),
    ],
    "redis": [("gateway", "broker.publish", "producer"), ("shop", "ws.message_received", "consumer")],
    "rabbitmq": [("gateway", "broker.publish", "producer"), ("shop", "ws.message_received", "consumer")],
}
PUSH = {
    "terminator": [("shop", "ws.publish", "client"), ("gateway", "ws.publish.http", "server")],
    "redis": [("shop", "ws.publish", "producer"), ("gateway", "ws.outbox.redis", "consumer")],
    "rabbitmq": [("shop", "ws.publish", "producer"), ("gateway", "ws.outbox.rabbitmq", "consumer")],
}


def line(spans: list[dict], parent: str, expected: list[tuple[str, str, str]]) -> list[dict]:
    """The spans that stand below each other as expected, as far as they do."""
    found = []
    for service, name, kind in expected:
        span = next(
            (
                span for span in spans
                if (span["parent_span_id"], span["service"], span["kind"]) == (parent, service, kind)
                and fnmatch.fnmatchcase(span["name"], name)
            ),
            None,
        )
        if span is None:
            break
        found.append(span)
        parent = span["span_id"]
    return found


def wait_for_line(collector: Collector, trace: str, parent: str, expected: list[tuple[str, str, str]]) -> list[dict]:
    """Waits until the spans of a trace stand as expected, and returns that line."""
    spans = collector.wait_for(lambda spans: len(line(spans, parent, expected)) == len(expected), WAIT_SECONDS, trace_id=trace)
    found = line(spans, parent, expected)
    assert len(found) == len(expected), f"{expected[len(found)]} is missing below {found[-1:] or parent}:\n" + "\n".join(
        f"{span['parent_span_id'] or '-'} > {span['span_id']} {span['service']}: {span['name']} ({span['kind']})" for span in spans
    )
    return found


def test_a_message_its_event_and_the_answer_are_one_trace(stack) -> None:
    trace, parent, traceparent = client_span()
    with stack.client() as socket:
        stack.echo(socket, traceparent=traceparent)
        expected = [("gateway", "ws.message", "server"), *EVENT[stack.kind], *PUSH[stack.kind]]
        found = wait_for_line(stack.collector, trace, parent, expected)

    assert {span["protocol"] for span in found if span["service"] == "gateway"} == {stack.protocol}
    assert {span["protocol"] for span in found if span["service"] == "shop"} == {"http/json"}
    # All of it happened within the message's way, and each part within what it waits for.
    for outer, inner in zip(found, found[1:]):
        assert outer["start"] <= inner["start"], (outer["name"], inner["name"])
    assert all(span["status"]["code"] != "error" for span in found)


def test_what_spans_say_of_messages(stack) -> None:
    trace, parent, traceparent = client_span()
    with stack.client() as socket:
        stack.echo(socket, traceparent=traceparent)
        expected = [("gateway", "ws.message", "server"), *EVENT[stack.kind], *PUSH[stack.kind]]
        found = wait_for_line(stack.collector, trace, parent, expected)
    spans = {span["name"]: span["attributes"] for span in found}

    event, push = spans["ws.message_received"], spans["ws.publish"]
    assert event["messaging.operation.type"] == "process"
    if stack.kind == "terminator":
        server = spans["POST /internal/ws/events"]
        assert (server["http.request.method"], server["http.response.status_code"]) == ("POST", 204)
        assert (server["http.route"], server["url.scheme"]) == ("/internal/ws/events", "http")
        client = spans["webhook.publish"]
        assert (client["http.request.method"], client["http.response.status_code"]) == ("POST", 204)
        assert (push["http.request.method"], push["http.response.status_code"], push["wsgw.push.connections"]) == ("POST", 200, 1)
        assert push["url.full"] == f"{stack.gateway}/internal/publish"
    else:
        sent = spans["broker.publish"]
        assert sent["messaging.system"] == event["messaging.system"] == push["messaging.system"] == stack.kind
        # Of RabbitMQ the exchange and the routing key.
        times = 2 if stack.kind == "rabbitmq" else 1
        assert sent["messaging.destination.name"] == event["messaging.destination.name"] == ":".join(["ws.inbox"] * times)
        assert push["messaging.destination.name"] == ":".join(["ws.outbox"] * times)
        # One message, whoever speaks of it.
        assert sent["messaging.message.id"] == event["messaging.message.id"]


def test_a_push_that_begins_in_php(stack) -> None:
    with stack.client() as socket:
        trace, parent, traceparent = client_span()
        stack.push(USER, traceparent=traceparent)
        while "text" not in json.loads(socket.recv(WAIT_SECONDS))["payload"]:
            pass
        wait_for_line(stack.collector, trace, parent, PUSH[stack.kind])

        # Of nobody's trace: it begins one.
        before = {span["trace_id"] for span in stack.collector.spans()}
        stack.push(USER)
        is_new = lambda span: span["name"] == "ws.publish" and span["trace_id"] not in before  # noqa: E731
        spans = stack.collector.wait_for(lambda spans: any(map(is_new, spans)), WAIT_SECONDS)
        first = next(filter(is_new, spans))
        assert first["parent_span_id"] == ""
        wait_for_line(stack.collector, first["trace_id"], "", PUSH[stack.kind])


def test_a_connection_is_a_trace_of_its_own_or_the_upgrades(stack) -> None:
    trace, parent, traceparent = client_span()
    with stack.client(traceparent=traceparent) as socket:
        stack.echo(socket)
        wait_for_line(stack.collector, trace, parent, [("gateway", "ws.connected", "server")])
        # Messages that say nothing belong to the upgrade's trace, too.
        wait_for_line(stack.collector, trace, parent, [("gateway", "ws.message", "server"), *EVENT[stack.kind], *PUSH[stack.kind]])


def test_a_trace_that_its_client_does_not_record_is_recorded_by_nobody(stack) -> None:
    with stack.client() as socket:
        trace, _, traceparent = client_span()
        push = stack.echo(socket, traceparent=traceparent.removesuffix("01") + "00")
        assert push["message"]["traceparent"].endswith("-00")
        # What comes later has arrived: so would have what comes before.
        later, parent, traceparent = client_span()
        stack.echo(socket, traceparent=traceparent)
        wait_for_line(stack.collector, later, parent, [("gateway", "ws.message", "server"), *EVENT[stack.kind], *PUSH[stack.kind]])
    assert stack.collector.spans(trace_id=trace) == []


def test_the_tree_of_a_trace_can_be_shown(stack) -> None:
    trace, parent, traceparent = client_span()
    expected = [("gateway", "ws.message", "server"), *EVENT[stack.kind], *PUSH[stack.kind]]
    with stack.client() as socket:
        stack.echo(socket, traceparent=traceparent)
        wait_for_line(stack.collector, trace, parent, expected)
    spans = fetch(stack.collector.http_url, trace)
    tree = draw(spans, parent)
    assert tree[0].startswith("gateway: ws.message  [server, ")
    assert [text.strip().removeprefix("└─ ").split("  ")[0] for text in tree] == [f"{service}: {name}" for service, name, _ in expected]
    assert len(follow(spans, [name for _, name, _ in expected], parent)) == len(expected)


def script_environment(stack, **more: str) -> dict[str, str]:
    """What both scripts are told of a stack."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        "APP_URL": stack.app,
        "DEMO_API_KEY": stack.secrets["demo"],
        "WS_URL": stack.ws,
        "WS_GATEWAY_BASE_URL": stack.gateway,
        "GATEWAY_API_KEY": stack.secrets["gateway"],
        "JWT_PRIVATE_KEY_FILE": str(ROOT / "tests/keys/rsa.pem"),
        "TRACES_URL": stack.collector.http_url,
        "TRACE_SECONDS": str(WAIT_SECONDS),
        **more,
    }


def run_script(name: str, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess:
    """Runs a script to its end."""
    return subprocess.run([str(ROOT / "scripts" / name), *arguments], env=env, text=True, capture_output=True, timeout=120)


def test_the_script_that_checks_the_whole_way(stack) -> None:
    done = run_script("tracing_e2e_check.sh", "61", env=script_environment(stack))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("Both are one trace.\n")
    assert "FAILED" not in done.stdout
    for _, name, _ in [("", "ws.message", ""), *EVENT[stack.kind], *PUSH[stack.kind]]:
        assert f"ok      {name} of " in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_no_span_has_a_secret_or_what_clients_said(stack) -> None:
    with stack.client() as socket:
        trace, parent, traceparent = client_span()
        stack.echo(socket, traceparent=traceparent)
        wait_for_line(stack.collector, trace, parent, [("gateway", "ws.message", "server"), *EVENT[stack.kind], *PUSH[stack.kind]])
    text = json.dumps(stack.collector.spans())
    for secret in ("hunter2", PAYLOAD, USER, stack.token()[-40:], "guest:guest"):
        assert secret not in text, secret
    printed = json.dumps(stack.output())
    for secret in ("hunter2", PAYLOAD):
        assert secret not in printed, secret
    # A user is a hash, the same on both sides.
    hashes = {
        span["service"]: span["attributes"]["user.hash"] for span in stack.collector.spans(trace_id=trace)
        if "user.hash" in span["attributes"]
    }
    assert set(hashes) == {"gateway", "shop"} and len(set(hashes.values())) == 1, hashes


def test_a_share_of_traces_is_recorded_whole() -> None:
    names = ["ws.message", *(name for _, name, _ in EVENT["terminator"] + PUSH["terminator"])]
    count = 60
    with running("terminator", rate="0.5") as stack:
        with stack.client() as socket:
            for _ in range(count):
                stack.echo(socket)
            # PHP has answered for all of them, and for the connection.
            end = time.monotonic() + WAIT_SECONDS
            while stack.metric("webhook_publish_total") < count + 1:
                assert time.monotonic() < end
                time.sleep(0.05)
        # The gateway exports what it still has.
        stack.stop()
        traces: dict[str, list[str]] = {}
        for span in stack.collector.spans():
            traces.setdefault(span["trace_id"], []).append(span["name"])
    messages = [found for found in traces.values() if "ws.message" in found]
    # Each has a chance of a half: fewer than 9 or more than 51 of 60 come once in ten million runs.
    assert 9 <= len(messages) <= 51, len(messages)
    for found in messages:
        assert sorted(found) == sorted(names), found


def test_nothing_is_recorded_at_a_rate_of_zero() -> None:
    with running("terminator", rate="0") as stack:
        with stack.client() as socket:
            stack.echo(socket)
            # Nor because a client asks for it.
            stack.echo(socket, traceparent=client_span()[2])
            stack.push(USER)
        stack.stop()
        assert stack.collector.spans() == []


@pytest.mark.parametrize("mode", ["absent", "hang"])
def test_without_a_collector_everything_works(mode: str) -> None:
    with Collector().start() as collector:
        env = tracing(collector)
        if mode == "absent":
            collector.stop()
        else:
            collector.mode = mode
        stack = Stack("terminator", env)
        try:
            with stack.client() as socket:
                for _ in range(8):
                    stack.echo(socket)
                assert stack.push(USER)["sent"] == 1
        finally:
            stack.stop()
        assert stack.process.returncode == 0


def test_the_collector_refuses_what_exporters_get_wrong() -> None:
    span = {
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "a", "kind": 2,
        "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000000000000001",
    }

    def export(body: bytes, kind: str = "application/json") -> int:
        request = urllib.request.Request(f"{collector.http_url}/v1/traces", body, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as response:
                return response.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def with_span(changes: dict) -> bytes:
        return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span | changes]}]}]}).encode()

    with Collector().start() as collector:
        assert export(with_span({})) == 200
        for wrong in (
            {"traceId": "CvdlGRbNQ92ESOshHIAxnA=="}, {"spanId": "0" * 16}, {"parentSpanId": "aa"}, {"name": ""},
            {"endTimeUnixNano": "1"}, {"startTimeUnixNano": "soon"}, {"unknown": 1},
            {"attributes": [{"key": "a", "value": {"intValue": "1"}}] * 2},
        ):
            assert export(with_span(wrong)) == 400, wrong
        assert export(b"\xff", "application/x-protobuf") == 400
        assert export(b"", "text/plain") == 415
        collector.mode = "503"
        assert export(with_span({})) == 503
        assert [found["name"] for found in collector.spans()] == ["a"]


def test_the_scripts_help_and_refuse() -> None:
    env = {"PATH": os.environ["PATH"]}
    for name in ("tracing_e2e_check.sh", "tracing_runtime_check.sh"):
        assert run_script(name, "--help", env=env).stdout.startswith(f"Usage: {name}")
        assert run_script(name, "--nonsense", env=env).returncode == 2
        done = run_script(name, env=env)
        assert done.returncode == 1 and "API_KEY" in done.stderr, done.stderr


def test_the_script_that_looks_at_the_gateway(stack) -> None:
    env = script_environment(stack, TRACE_SECONDS="8")
    done = run_script("tracing_runtime_check.sh", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("The gateway traces.\n") and "FAILED" not in done.stdout
    assert "goes by the sampled flag" in done.stdout
    assert "of the connection and the message were exported" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr

    done = run_script("tracing_runtime_check.sh", env=env | {"GATEWAY_API_KEY": "wrong"})
    assert done.returncode == 1 and "refuses the key" in done.stderr
    done = run_script("tracing_runtime_check.sh", env=env | {"WS_GATEWAY_BASE_URL": "http://127.0.0.1:1"})
    assert done.returncode == 1 and "is it running?" in done.stderr


def test_the_scripts_say_what_is_wrong() -> None:
    with running("terminator", TRACING_STRATEGY="propagate") as stack:
        env = script_environment(stack, TRACE_SECONDS="3")
        done = run_script("tracing_runtime_check.sh", env=env)
        assert done.returncode == 1 and "FAILED  no span was made: is TRACING_STRATEGY=full" in done.stdout, done.stdout
        done = run_script("tracing_e2e_check.sh", env=env)
        assert done.returncode == 1, done.stdout
        assert "FAILED  ws.message is missing: nobody exported it" in done.stdout
        assert "FAILED  ws.publish.http is missing: nobody exported it" in done.stdout
    with running("terminator") as stack:
        stack.collector.mode = "503"
        done = run_script("tracing_runtime_check.sh", env=script_environment(stack, TRACE_SECONDS="3"))
        assert done.returncode == 1 and "the collector does not take them" in done.stdout, done.stdout
