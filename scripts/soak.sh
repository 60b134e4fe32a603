#!/usr/bin/env bash
# Runs a gateway for long under all that wears one out, and judges what it leaves behind; scripts/soak/ does the work.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# The virtual environment of the tests, where there is one: it has what scripts/requirements.txt names.
python=$here/../target/venv/bin/python
[[ -x $python ]] || python=python3
PYTHONSAFEPATH=1 PYTHONPATH=$here exec "$python" -m soak "$@"
