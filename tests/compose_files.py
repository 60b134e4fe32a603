"""The compose stacks, and what compose makes of their files: it needs no engine for that."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASE, LOCAL, BROKERS, CORE, PROD = (
    f"docker-compose{name}.yaml" for name in ("", ".local", ".brokers", ".realtime-core", ".prod")
)
STACKS = {
    "terminator": [BASE, LOCAL],
    "core": [BASE, LOCAL, BROKERS, CORE],
    "terminator on a server": [BASE, PROD],
    "core on a server": [BASE, BROKERS, CORE, PROD],
}
SERVER = {"WSGW_DOMAIN": "ws.example.org", "ACME_EMAIL": "you@example.org", "SECRETS_ARE_MY_OWN": "yes"}


def run(*command: object, check: bool = True, **options) -> subprocess.CompletedProcess:
    """Runs a command to its end."""
    done = subprocess.run(
        [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, **options,
    )
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def merged(files: list[str], env: dict[str, str] | None = None) -> dict:
    """What compose makes of files, with .env.example for .env."""
    flags = [part for name in files for part in ("--file", ROOT / name)]
    done = run(
        "docker", "compose", "--env-file", ROOT / ".env.example", *flags, "config", "--format", "json",
        env=os.environ | {"COMPOSE_FILE": ""} | SERVER | (env or {}),
    )
    return json.loads(done.stdout)
