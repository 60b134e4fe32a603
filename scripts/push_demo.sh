#!/usr/bin/env bash
# Pushes to a user as a backend does, without any code: by HTTP, by a Redis stream or by RabbitMQ.
set -euo pipefail
# shellcheck source=scripts/curl_header.sh
. "$(dirname "$0")/curl_header.sh"
# shellcheck source=scripts/compose_settings.sh
. "$(dirname "$0")/compose_settings.sh"

usage() {
    cat <<'USAGE'
Usage: push_demo.sh [--compose] [--mode terminator|core] [--transport http|redis|rabbitmq] [--subject] USER [JSON]

Pushes JSON (default {"type":"demo","text":"Hello from push_demo.sh"}) to all connections of USER, and prints the
command that does it. With --subject the first argument is a subject, such as room:7, as it is.

  http      POST /internal/publish of the gateway, by curl; the default in terminator mode
  redis     XADD to the stream that every gateway reads, by redis-cli; the default in core mode
  rabbitmq  publish to the exchange that every gateway is bound to, by amqp-publish (amqp-tools)

With --compose it takes the compose stack of this machine: its ports, and the keys of .env in this directory.

Settings come from the environment:

  WS_MODE               the mode where --mode does not say (default terminator)
  WS_TRANSPORT_TYPE     the transport where neither option says: http, redis_stream or rabbitmq
  WS_GATEWAY_BASE_URL   the gateway (default http://localhost:8000)
  GATEWAY_API_KEY       its key
  REDIS_DSN             Redis (default redis://localhost:6379/0)
  REDIS_STREAM          the stream (default ws.outbox)
  RABBITMQ_DSN          RabbitMQ (default amqp://guest:guest@localhost:5672/%2f)
  RABBITMQ_EXCHANGE     the exchange (default ws.outbox)
  RABBITMQ_ROUTING_KEY  the routing key (default ws.outbox)

Exit status: 0 if it was handed over, 1 if not, 2 if the arguments are wrong.
USAGE
}

fail() {
    printf 'push_demo.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

mode=''
transport=''
prefix=user:
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --mode) [ $# -gt 1 ] || fail '--mode needs a mode' 2; mode=$2; shift ;;
        --mode=*) mode=${1#*=} ;;
        --transport) [ $# -gt 1 ] || fail '--transport needs a transport' 2; transport=$2; shift ;;
        --transport=*) transport=${1#*=} ;;
        --compose) compose_settings ;;
        --subject) prefix='' ;;
        --*) fail "unknown option $1; try --help" 2 ;;
        *) arguments+=("$1") ;;
    esac
    shift
done
if [ ${#arguments[@]} -lt 1 ] || [ ${#arguments[@]} -gt 2 ]; then
    usage >&2
    exit 2
fi
# What is said nearest counts: the options, then the environment, then what the mode implies.
[ -n "$mode$transport" ] || transport=${WS_TRANSPORT_TYPE:-}
mode=${mode:-${WS_MODE:-terminator}}
case $mode in
    terminator) transport=${transport:-http} ;;
    core) transport=${transport:-redis} ;;
    *) fail "the mode must be terminator or core, not $mode" 2 ;;
esac
subject=$prefix${arguments[0]}
payload=${arguments[1]:-'{"type":"demo","text":"Hello from push_demo.sh"}'}
# It becomes part of JSON as it is.
case $subject in
    *[\"\\[:cntrl:]]*) fail 'a user or subject must not have quotes, backslashes or control characters' 2 ;;
esac
push="{\"subjects\":[\"$subject\"],\"payload\":$payload}"

# Shows a command as it can be typed; the names of secrets are shown, never what they are.
show() { printf '$ %s\n' "$1"; }

# What is no JSON would become a dead letter, which is not what somebody who tries this wants to see.
needs_json() {
    ! command -v python3 >/dev/null ||
        printf '%s' "$push" | python3 -c 'import json, sys; json.load(sys.stdin)' 2>/dev/null ||
        fail "the payload is no JSON: $payload" 2
}

case $transport in
    http)
        url=${WS_GATEWAY_BASE_URL:-http://localhost:8000}
        url=${url%/}/internal/publish
        [ -n "${GATEWAY_API_KEY:-}" ] || fail 'set GATEWAY_API_KEY to the key that the gateway was started with'
        header=$(curl_header X-API-Key "$GATEWAY_API_KEY") || fail 'GATEWAY_API_KEY has a line break' 2
        show "curl $url -H \"X-API-Key: \$GATEWAY_API_KEY\" -d '$push'"
        # The key goes by standard input: arguments can be seen by everybody on the machine.
        answer=$(printf '%s\n' "$header" |
            curl --silent --show-error --max-time 10 --config - --write-out '\n%{http_code}' \
                --header 'Content-Type: application/json' --data-binary "$push" "$url") ||
            fail "the gateway does not answer at $url: is it running?"
        status=${answer##*$'\n'}
        printf '%s\n' "${answer%$'\n'*}"
        case $status in
            200) ;;
            401) fail 'the gateway refuses the key: GATEWAY_API_KEY is not the one that it was started with' ;;
            403) fail 'the gateway has no key, and refuses every call: start it with GATEWAY_API_KEY' ;;
            *) fail "the gateway answered $status" ;;
        esac
        case $answer in
            '{"sent":0}'*) printf 'Nobody who is connected to this gateway listens to %s.\n' "$subject" ;;
            *) printf 'Queued to that many connections.\n' ;;
        esac
        ;;
    redis | redis_stream)
        dsn=${REDIS_DSN:-redis://localhost:6379/0}
        stream=${REDIS_STREAM:-ws.outbox}
        command -v redis-cli >/dev/null || fail 'redis-cli is missing: install redis-tools'
        show "redis-cli -u \"\$REDIS_DSN\" XADD $stream '*' data '$push'"
        needs_json
        # An error of Redis is an answer too, with exit status 0.
        id=$(redis-cli --no-auth-warning -u "$dsn" XADD "$stream" '*' data "$push" 2>&1) ||
            fail "Redis does not answer: $id"
        [[ $id =~ ^[0-9]+-[0-9]+$ ]] || fail "Redis did not take it: $id"
        printf '%s\nThe entry is in the stream; every gateway delivers it to its own clients.\n' "$id"
        ;;
    rabbitmq)
        dsn=${RABBITMQ_DSN:-amqp://guest:guest@localhost:5672/%2f}
        exchange=${RABBITMQ_EXCHANGE:-ws.outbox}
        key=${RABBITMQ_ROUTING_KEY:-ws.outbox}
        command -v amqp-publish >/dev/null || fail 'amqp-publish is missing: install amqp-tools'
        show "amqp-publish --url \"\$RABBITMQ_DSN\" -e $exchange -r $key -p -C application/json -b '$push'"
        needs_json
        answer=$(amqp-publish --url "$dsn" -e "$exchange" -r "$key" -p -C application/json -b "$push" 2>&1) ||
            fail "RabbitMQ did not take it: ${answer//"$dsn"/RABBITMQ_DSN}"
        printf 'Published to %s; every gateway delivers it to its own clients.\n' "$exchange"
        ;;
    *) fail "the transport must be http, redis or rabbitmq, not $transport" 2 ;;
esac
