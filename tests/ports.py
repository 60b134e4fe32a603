"""Ports for the servers of a test, chosen as the endurance run chooses its own."""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "scripts"))

from soak.servers import free_port  # noqa: E402

__all__ = ["free_port"]
