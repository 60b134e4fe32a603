"""The pipeline files of a run: two by turns, and some that must be refused; all from pipelines/core.yaml."""

from __future__ import annotations

from .servers import Failure

# What is put in the place of what, in the order of the file; `was` stands in it once.
BOTH = [
    # Acknowledgements, so that clients know what has to arrive, and what drops their repetitions.
    ("    - ordering_key:", "    - dedupe: { window_seconds: 30 }\n    - ordering_key:"),
    ("    - fan_out:\n", "    - fan_out:\n        ack: all\n"),
    # More pings, and less patience with requests that never end.
    ("    path: /ws\n", "    path: /ws\n    ping_interval_seconds: 5\n    handshake_timeout_seconds: 5\n"),
]
SECOND = [
    # Other stages, another way to keep presence, other links to Redis, another level of the log.
    ("    - trace: {}\n", "    - set: { fields: { run: { value: soak } } }\n    - trace: {}\n"),
    ("${WS_RATE_LIMIT_PER_SEC:-10}", "${WS_RATE_LIMIT_PER_SEC:-12}"),
    ("${PRESENCE_STRATEGY:-ttl}", "${PRESENCE_STRATEGY:-session}"),
    ("  # Who is online:", "  brokers: { redis: { response_timeout_seconds: 9 } }\n\n  # Who is online:"),
    ("${LOG_LEVEL:-info}", "${SOAK_LOG_LEVEL:-info}"),
]
INVALID = [
    # A key that does not exist, a stage twice, a file that is not there, and what is no YAML.
    [("    path: /ws\n", "    path: /ws\n    pathos: true\n")],
    [("    - ping_filter: {}\n", "    - ping_filter: {}\n    - ping_filter: {}\n")],
    [("${JWT_PUBLIC_KEY:-}", ""), ("${JWT_PUBLIC_KEY_FILE:-}", "/nonexistent/public.pem")],
    [("  mode:", "  mode: [")],
]


def changed(text: str, changes: list[tuple[str, str]]) -> str:
    """The text with each change made."""
    for was, becomes in changes:
        if text.count(was) != 1:
            times = text.count(was)
            raise Failure(f"pipelines/core.yaml has {was.strip()!r} {times} times: scripts/soak/files.py expects it once")
        text = text.replace(was, becomes)
    return text


def pipeline_files(core: str) -> tuple[list[str], list[str]]:
    """The two valid files, and the invalid ones."""
    first = changed(core.partition("\ntests:\n")[0], BOTH)
    return [first, changed(first, SECOND)], [changed(first, changes) for changes in INVALID]
