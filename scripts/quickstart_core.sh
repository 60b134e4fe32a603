#!/usr/bin/env bash
# The quick start of core mode, as the README has it: two gateways, Redis, RabbitMQ and a consumer, one message there and
# one back.
#
#   quickstart_core.sh          starts the stack and leaves it running
#   quickstart_core.sh --down   stops it and removes its containers; volumes stay
#
# It needs Docker with compose 2.24 or newer, Python 3 and openssl.
set -euo pipefail
cd "$(dirname "$0")/.."

files=docker-compose.yaml:docker-compose.local.yaml:docker-compose.brokers.yaml:docker-compose.realtime-core.yaml
export COMPOSE_FILE=$files${COMPOSE_FILE_EXTRA:+:$COMPOSE_FILE_EXTRA}
# shellcheck source=scripts/quickstart_steps.sh
. scripts/quickstart_steps.sh
quickstart "$@"
