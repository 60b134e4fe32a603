#!/usr/bin/env bash
# Sends a message and a push through a running gateway and Symfony demo, and checks that each is one trace.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/curl_header.sh
. scripts/curl_header.sh
# shellcheck source=scripts/compose_settings.sh
. scripts/compose_settings.sh

usage() {
    cat <<'USAGE'
Usage: tracing_e2e_check.sh [--compose] [USER]

Sends a message as USER (default 42), which the Symfony demo answers by a push, and has the demo push to USER on its own.
Each is given a trace of its own. Then shows both traces as trees, and says for every span that it expects whether it is
below the right one. Starts nothing but the client and, unless one is there, a collector: gateway, demo and, in core mode,
ws:consume must run, with spans sent to that collector:

  gateway  TRACING_STRATEGY=full TRACING_EXPORTER=otlp OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318
  demo     WS_TRACING_ENABLED=1 WS_TRACING_EXPORTER=otlp WS_TRACING_ENDPOINT=http://localhost:4318

With --compose it takes the compose stack of this machine: its ports, and the keys of .env.

Settings come from the environment:

  TRACES_URL            where the spans can be read: tests/otlp/collector.py (http://localhost:4318), Jaeger
                        (http://localhost:16686) or Tempo (http://localhost:3200). Unset: the collector, which is started
                        on ports 4318 and 4317 if nobody listens there
  TRACE_SECONDS         how long to wait for spans (default 45: who found no collector tries again after 30 seconds)
  APP_URL               the demo (default http://localhost:8080)
  DEMO_API_KEY          its key
  WS_URL                where clients connect (default ws://localhost:8000/ws)
  JWT_PRIVATE_KEY_FILE  what signs the client's token (default keys/private.pem)
  FLOW_SECONDS          how long to wait for each step (default 15)

Exit status: 0 if both are one trace, 1 if not, 2 if the arguments are wrong.
USAGE
}

fail() {
    printf 'tracing_e2e_check.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

if [ "${1:-}" = --compose ]; then
    compose_settings
    shift
fi
case ${1:-} in
    --help | -h) usage; exit 0 ;;
    -*) fail "unknown option $1; try --help" 2 ;;
esac
[ $# -le 1 ] || { usage >&2; exit 2; }
user=${1:-42}
[[ $user =~ ^[A-Za-z0-9._-]+$ ]] || fail 'a user has letters, digits, dots, hyphens and underscores here' 2
app=${APP_URL:-http://localhost:8080}
app=${app%/}
export WS_URL=${WS_URL:-ws://localhost:8000/ws}
export JWT_PRIVATE_KEY_FILE=${JWT_PRIVATE_KEY_FILE:-keys/private.pem}
export JWT_USER_ID=$user
seconds=${FLOW_SECONDS:-15}
trace_seconds=${TRACE_SECONDS:-45}
traces=${TRACES_URL:-http://localhost:4318}
traces=${traces%/}
[ -n "${DEMO_API_KEY:-}" ] || fail 'set DEMO_API_KEY to the key that the demo was started with'
key=$(curl_header X-Demo-Key "$DEMO_API_KEY") || fail 'DEMO_API_KEY has a line break' 2
python=target/venv/bin/python
[ -x "$python" ] || python=python3
"$python" -c 'import jwt, websockets' 2>/dev/null ||
    fail "the client needs some libraries: $python -m pip install -r scripts/requirements.txt"

work=$(mktemp -d)
client=''
collector=''
# Called by the trap.
# shellcheck disable=SC2317
clean_up() {
    [ -z "$client" ] || kill "$client" 2>/dev/null || true
    [ -z "$collector" ] || kill "$collector" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# A call of the demo's API. The key goes by standard input: arguments can be seen by everybody on the machine.
api() {
    printf '%s\n' "$key" |
        curl --silent --show-error --max-time 10 --config - --write-out '\n%{http_code}' "$@"
}

# Repeats a test until it holds.
eventually() {
    local end=$((SECONDS + seconds))
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

answers() { curl --silent --output /dev/null --max-time 5 "$traces/"; }

step() { printf '\n%s. %s\n' "$1" "$2"; }

random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

step 1 'Find where spans go.'
if answers; then
    printf 'Spans are read from %s.\n' "$traces"
elif [ -n "${TRACES_URL:-}" ]; then
    fail "nothing answers at $traces"
else
    "$python" -c 'import grpc, opentelemetry.proto.trace.v1.trace_pb2' 2>/dev/null ||
        fail "the collector needs some libraries: $python -m pip install -r tests/otlp/requirements.txt"
    printf '$ python3 tests/otlp/collector.py\n'
    "$python" tests/otlp/collector.py 2>"$work/collector" &
    collector=$!
    eventually answers || fail "the collector does not start: $(cat "$work/collector")"
    cat "$work/collector"
fi

step 2 'Ask the demo how it talks with the gateway.'
printf '$ curl %s/api/ping\n' "$app"
ping=$(curl --silent --show-error --fail --max-time 10 "$app/api/ping") || fail "the demo does not answer at $app: is it running?"
printf '%s\n' "$ping"
case $ping in
    *'"events":"webhook"'*) there='webhook.publish,POST *,ws.message_received' ;;
    *'"events":"none"'*) fail 'the demo takes no events' ;;
    *) there='broker.publish,ws.message_received' ;;
esac
case $ping in
    *'"transport":"http"'*) back='ws.publish,ws.publish.http' ;;
    *'"transport":"redis_stream"'*) back='ws.publish,ws.outbox.redis' ;;
    *'"transport":"rabbitmq"'*) back='ws.publish,ws.outbox.rabbitmq' ;;
    *) fail 'the demo does not say how it pushes' ;;
esac

flow=flow-$$-$(random 8)
trace=$(random 16)
span=$(random 8)
message="{\"type\":\"echo\",\"flow\":\"$flow\",\"traceparent\":\"00-$trace-$span-01\"}"
step 3 "Connect as user $user, send a message that the demo echoes, and wait for the echo."
printf "\$ JWT_PRIVATE_KEY_FILE=%s JWT_USER_ID=%s WS_URL=%s WS_MESSAGE_JSON='%s' python3 scripts/ws_client.py\n" \
    "$JWT_PRIVATE_KEY_FILE" "$user" "$WS_URL" "$message"
WS_MESSAGE_JSON=$message PYTHONUNBUFFERED=1 "$python" scripts/ws_client.py >"$work/out" 2>"$work/err" &
client=$!
is_connected() { grep -q 'connected to' "$work/err" || ! kill -0 "$client" 2>/dev/null; }
eventually is_connected || fail "the client does not connect to $WS_URL"
kill -0 "$client" 2>/dev/null || fail "the client ended: $(cat "$work/err")"
has_echo() { grep -q "\"payload\":.*$flow" "$work/out"; }
eventually has_echo || fail "no echo came within $seconds s; ./scripts/demo_message_flow.sh finds where the way ends"
grep "$flow" "$work/out"

push_trace=$(random 16)
push_span=$(random 8)
step 4 'Have PHP push to that user, in a trace of its own.'
printf "\$ curl %s/api/push-demo/%s -H \"X-Demo-Key: \$DEMO_API_KEY\" -H 'traceparent: 00-%s-%s-01' -d '{}'\n" \
    "$app" "$user" "$push_trace" "$push_span"
api --header "traceparent: 00-$push_trace-$push_span-01" --data-binary '{}' "$app/api/push-demo/$user" >"$work/answer" ||
    fail 'the demo does not answer'
head -n 1 "$work/answer"
[ "$(tail -n 1 "$work/answer")" = 200 ] || fail 'the push was not taken'

code=0
check() { # number, what, trace, client's span, expected names
    step "$1" "The $2's trace, $3."
    "$python" scripts/trace_tree.py --url "$traces" --root "$4" --expect "$5" --seconds "$trace_seconds" "$3" || code=1
}
check 5 message "$trace" "$span" "ws.message,$there,$back"
check 6 push "$push_trace" "$push_span" "$back"

[ $code = 0 ] || fail 'something is missing. Are both sides told to export to this collector (--help says how), and do they record
all traces? ./scripts/tracing_runtime_check.sh looks closer at the gateway.'
printf '\nBoth are one trace.\n'
