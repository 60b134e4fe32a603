"""The compose files as compose reads them: what is published, which secrets each service gets, what a server refuses.

Needs compose, and no engine. scripts/image_test.sh runs it.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil

import pytest

from compose_files import ROOT, SERVER, STACKS, merged, run

# Contract: what the gateway reads, and what the Symfony application does.
GATEWAY_VARIABLES = """
WS_MODE EVENTS_MODE LOG_LEVEL LOG_FORMAT JWT_ALG JWT_USER_ID_CLAIM JWT_PUBLIC_KEY JWT_PUBLIC_KEY_FILE JWT_JWKS_URL JWT_ISSUER
JWT_AUDIENCE JWT_LEEWAY GATEWAY_API_KEY SYMFONY_WEBHOOK_URL SYMFONY_WEBHOOK_SECRET WEBHOOK_RETRY_ATTEMPTS
WEBHOOK_RETRY_BASE_SECONDS WEBHOOK_TIMEOUT_SECONDS REDIS_DSN REDIS_STREAM REDIS_INBOX_STREAM REDIS_EVENTS_STREAM REDIS_DLQ_STREAM
RABBITMQ_DSN RABBITMQ_EXCHANGE RABBITMQ_ROUTING_KEY RABBITMQ_QUEUE RABBITMQ_QUEUE_TTL_MS RABBITMQ_INBOX_EXCHANGE
RABBITMQ_INBOX_ROUTING_KEY RABBITMQ_INBOX_QUEUE RABBITMQ_INBOX_QUEUE_TTL_MS RABBITMQ_EVENTS_EXCHANGE RABBITMQ_EVENTS_ROUTING_KEY
RABBITMQ_EVENTS_QUEUE RABBITMQ_EVENTS_QUEUE_TTL_MS RABBITMQ_DLQ_EXCHANGE RABBITMQ_DLQ_QUEUE RABBITMQ_REPLAY_TARGET_EXCHANGE
RABBITMQ_REPLAY_TARGET_ROUTING_KEY RABBITMQ_REPLAY_MAX_BATCH PRESENCE_REDIS_DSN PRESENCE_REDIS_PREFIX PRESENCE_STRATEGY
PRESENCE_TTL_SECONDS PRESENCE_HEARTBEAT_SECONDS PRESENCE_GRACE_SECONDS PRESENCE_REFRESH_ON_MESSAGE TRACING_STRATEGY
TRACING_TRACE_ID_FIELD TRACING_HEADER_NAME TRACING_SAMPLE_RATE TRACING_EXPORTER OTEL_SERVICE_NAME OTEL_EXPORTER_OTLP_ENDPOINT
OTEL_EXPORTER_OTLP_PROTOCOL REPLAY_STRATEGY REPLAY_RETENTION_SECONDS REPLAY_MAXLEN REPLAY_SNAPSHOT_SECONDS REPLAY_API_KEY
REPLAY_RATE_LIMIT_STRATEGY REPLAY_RATE_LIMIT_PER_MINUTE REPLAY_RATE_LIMIT_WINDOW_SECONDS REPLAY_RATE_LIMIT_REDIS_DSN
REPLAY_RATE_LIMIT_PREFIX REPLAY_RATE_LIMIT_KEY REPLAY_IDEMPOTENCY_STRATEGY REPLAY_IDEMPOTENCY_TTL_SECONDS
REPLAY_IDEMPOTENCY_REDIS_DSN REPLAY_IDEMPOTENCY_PREFIX REPLAY_IDEMPOTENCY_HEADER REPLAY_IDEMPOTENCY_PAYLOAD_FIELD
REPLAY_AUDIT_LOG WS_RATE_LIMIT_PER_SEC WS_RATE_LIMIT_BURST ORDERING_STRATEGY ORDERING_TOPIC_FIELD ORDERING_SUBJECT_SOURCE
ORDERING_PARTITION_MODE ORDERING_PARTITION_MAX_LEN ORDERING_PARTITIONS BACKPRESSURE_STRATEGY
BACKPRESSURE_PER_CONN_BUFFER BACKPRESSURE_GLOBAL_BUFFER BACKPRESSURE_DROP_POLICY WSGW_LISTEN
""".split()
SYMFONY_VARIABLES = """
WS_TRANSPORT_TYPE WS_PRESENCE_TYPE WS_EVENTS_TYPE WS_GATEWAY_BASE_URL WS_GATEWAY_API_KEY WS_REDIS_DSN WS_REDIS_STREAM
WS_REDIS_EVENTS_STREAM WS_REDIS_PREFIX WS_CONSUMER_LOG_LEVEL WS_TRACING_ENABLED WS_TRACING_EXPORTER WS_TRACEPARENT_FIELD
WS_TRACE_ID_FIELD WS_PRESENCE_INTERPRETATION_STRATEGY WS_PRESENCE_TTL_SECONDS WS_PRESENCE_HEARTBEAT_SECONDS
WS_PRESENCE_GRACE_SECONDS WS_PRESENCE_USE_LAST_SEEN WS_PRESENCE_WRITER_TYPE WS_PRESENCE_WRITER_TTL_SECONDS
WS_PRESENCE_WRITER_REFRESH_ON_MESSAGE DEMO_API_KEY DEMO_INBOX_REDIS_DSN DEMO_INBOX_REDIS_STREAM
""".split()


@pytest.mark.parametrize("name", STACKS)
def test_compose_takes_every_documented_combination(name: str) -> None:
    config = merged(STACKS[name])
    services = {"traefik", "gateway", "symfony"}
    if name.startswith("core"):
        services |= {"redis", "rabbitmq", "symfony-consumer"}
        assert config["services"]["gateway"]["deploy"]["replicas"] == 2
    assert set(config["services"]) == services
    page = (ROOT / "docs/docker.md").read_text() + (ROOT / ".env.example").read_text()
    assert ":".join(STACKS[name]) in page, "documented"
    for service, settings in config["services"].items():
        assert "docker.sock" not in json.dumps(settings), service
        assert settings.get("privileged") is None and settings.get("network_mode") is None, service


@pytest.mark.parametrize("name", STACKS)
def test_only_what_must_be_is_published(name: str) -> None:
    published = [
        (service, port.get("host_ip"), port["published"], port["target"])
        for service, settings in merged(STACKS[name])["services"].items()
        for port in settings.get("ports", [])
    ]
    if "server" in name:
        assert sorted(published) == [("traefik", None, "443", 8443), ("traefik", None, "80", 8080)]
        text = json.dumps(merged(STACKS[name]))
        assert set(re.findall(r'"published": ?"(\d+)"', text)) == {"80", "443"}
    else:
        assert {address for _, address, _, _ in published} == {"127.0.0.1"}
        expected = {"8180", "8167", "6379", "5672"} | ({"8000"} if name == "terminator" else set())
        assert {port for _, _, port, _ in published} == expected


@pytest.mark.parametrize("name", STACKS)
def test_each_service_gets_the_secrets_that_it_needs_and_no_other(name: str, tmp_path: pathlib.Path) -> None:
    gateway = {"GATEWAY_API_KEY", "SYMFONY_WEBHOOK_SECRET", "JWT_PUBLIC_KEY", "RABBITMQ_DSN", "ADMIN_API_KEY", "REPLAY_API_KEY"}
    gateway |= {"REPLAY_ARCHIVE_DSN", "REPLAY_RATE_LIMIT_REDIS_DSN", "REPLAY_IDEMPOTENCY_REDIS_DSN", "PRESENCE_REDIS_DSN"}
    # The gateway's key comes to the application as WS_GATEWAY_API_KEY.
    application = {"APP_SECRET", "DEMO_API_KEY", "GATEWAY_API_KEY", "SYMFONY_WEBHOOK_SECRET", "WS_RABBITMQ_DSN", "WS_REDIS_DSN"}
    allowed = {
        "gateway": gateway | {"REDIS_DSN"}, "symfony": application, "symfony-consumer": application,
        "rabbitmq": {"RABBITMQ_PASSWORD"}, "redis": set(), "traefik": set(),
    }
    for path in ROOT.glob("docker-compose*.yaml"):
        shutil.copy(path, tmp_path)
    secrets = set().union(*allowed.values())
    text = (ROOT / ".env.example").read_text() + "".join(f"{secret}=<{secret}>\n" for secret in sorted(secrets))
    (tmp_path / ".env").write_text(text)
    flags = [part for file in STACKS[name] for part in ("--file", tmp_path / file)]
    done = run("docker", "compose", *flags, "config", "--format", "json", cwd=tmp_path, env=os.environ | {"COMPOSE_FILE": ""} | SERVER)
    for service, settings in json.loads(done.stdout)["services"].items():
        given = set(re.findall("<([A-Z_]+)>", json.dumps(settings)))
        assert given <= allowed[service], service
        # What is there only for some services of a stack: terminator mode has no brokers.
        assert {"GATEWAY_API_KEY", "SYMFONY_WEBHOOK_SECRET"} <= given or service in ("rabbitmq", "redis", "traefik"), service


def test_the_documented_file_of_secrets_is_taken(tmp_path: pathlib.Path) -> None:
    [block] = re.findall(r"```yaml\n(# docker-compose.secrets.yaml.*?)```", (ROOT / "docs/docker.md").read_text(), re.DOTALL)
    for file in STACKS["terminator on a server"]:
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / "more.yaml").write_text(block)
    flags = [part for file in (*STACKS["terminator on a server"], "more.yaml") for part in ("--file", tmp_path / file)]
    command = ("docker", "compose", "--env-file", ROOT / ".env.example", *flags, "config", "--format", "json")
    gateway = json.loads(run(*command, env=os.environ | {"COMPOSE_FILE": ""} | SERVER).stdout)["services"]["gateway"]
    assert gateway["environment"]["GATEWAY_API_KEY"] == ""
    assert gateway["environment"]["GATEWAY_API_KEY_FILE"] in {secret["target"] for secret in gateway["secrets"]}
    assert {secret["source"] for secret in gateway["secrets"]} == {"jwt_public_key", "gateway_api_key"}


@pytest.mark.parametrize("name", [name for name in STACKS if "server" in name])
def test_a_server_takes_no_secrets_that_everybody_knows(name: str, tmp_path: pathlib.Path) -> None:
    flags = [part for file in STACKS[name] for part in ("--file", ROOT / file)]
    env = os.environ | {"COMPOSE_FILE": "", "WSGW_DOMAIN": "ws.example.org", "ACME_EMAIL": "you@example.org"}
    done = run("docker", "compose", "--env-file", ROOT / ".env.example", *flags, "config", check=False, env=env)
    assert done.returncode != 0 and "local-only" in done.stderr
    # The script's file is taken as it is, and has none of them.
    (tmp_path / "scripts").mkdir()
    for file in ("scripts/server_env.sh", ".env.example", *STACKS[name]):
        shutil.copy(ROOT / file, tmp_path / file)
    core = ["--core"] if name.startswith("core") else []
    run(tmp_path / "scripts/server_env.sh", "ws.example.org", "you@example.org", *core, cwd=tmp_path)
    env = {key: value for key, value in os.environ.items() if key != "COMPOSE_FILE"}
    config = run("docker", "compose", "config", cwd=tmp_path, env=env).stdout
    assert "local-only" not in config and "ws.example.org" in config
    assert ("symfony-consumer" in config) == bool(core)


def test_the_example_has_every_variable() -> None:
    example = re.findall(r"^#?([A-Z_0-9]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert len(example) == len(set(example) - {"COMPOSE_FILE"}) + example.count("COMPOSE_FILE"), "each once"
    wanted = set(GATEWAY_VARIABLES) | set(SYMFONY_VARIABLES)
    for path in (ROOT / "pipelines").glob("*.yaml"):
        document = path.read_text().split("\ntests:")[0]
        wanted |= {name for name in re.findall(r"\$\{([A-Z_0-9]+)", document) if name != "NAME"}
    own = re.findall(r"^([A-Z_0-9]+)=", (ROOT / "symfony/.env").read_text(), re.MULTILINE)
    # The stack says these itself: another value would break it.
    wanted |= set(own) - {"APP_ENV", "WS_TOKEN_KEY_FILE"}
    for path in ROOT.glob("docker-compose*.yaml"):
        wanted |= set(re.findall(r"\$\{([A-Z_0-9]+)", path.read_text()))
    # The two keys of the operator's page have their files as settings of their own.
    assert sorted(wanted - set(example)) == []
    known = wanted | {"COMPOSE_FILE", "WSGW__SERVER__DRAIN_SECONDS"}
    assert sorted(set(example) - known) == [], "nobody reads it"
