"""How the tests of deploy/ run commands: with the tools that `scripts/test.sh deploy` builds."""

from __future__ import annotations

import os
import pathlib
import subprocess

from operations_stack import ROOT

TOOLS = ROOT / "target/tools/bin"
ENVIRONMENT = {**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C"}


def run(*command: str | pathlib.Path, ok: bool = True, **options) -> str:
    """Output of a command that must succeed, or must fail."""
    done = subprocess.run(
        [str(part) for part in command],
        **{"cwd": ROOT, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 180, "stdin": subprocess.DEVNULL, **options},
    )  # fmt: skip
    assert (done.returncode == 0) == ok, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    # Helm tells of each symbolic link that it follows.
    return "\n".join(line for line in (done.stdout + done.stderr).splitlines() if "found symbolic link" not in line)
