#!/usr/bin/env bash
# The quick start of terminator mode, as the README has it: everything in containers, one message there and one back.
#
#   quickstart_terminator.sh          starts the stack and leaves it running
#   quickstart_terminator.sh --down   stops it and removes its containers; volumes stay
#
# It needs Docker with compose 2.24 or newer, Python 3 and openssl.
set -euo pipefail
cd "$(dirname "$0")/.."

export COMPOSE_FILE=docker-compose.yaml:docker-compose.local.yaml${COMPOSE_FILE_EXTRA:+:$COMPOSE_FILE_EXTRA}
# shellcheck source=scripts/quickstart_steps.sh
. scripts/quickstart_steps.sh
quickstart "$@"
