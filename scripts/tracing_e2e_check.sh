#!/usr/bin/env bash
# Sends a message and a push through a running gateway and Symfony demo, and checks that each is one trace.
set -euo pipefail
cd "$(dirname "$0")/.."

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

# shellcheck source=scripts/demo_flow.sh
. scripts/demo_flow.sh
trace_seconds=${TRACE_SECONDS:-45}
traces=${TRACES_URL:-http://localhost:4318}
traces=${traces%/}

answers() { curl --silent --output /dev/null --max-time 5 "$traces/"; }

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
    children+=($!)
    eventually answers || fail "the collector does not start: $(cat "$work/collector")"
    cat "$work/collector"
fi

step 2 'Ask the demo how it talks with the gateway.'
ask_demo
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
start_client "$message"
see_push "$flow" "no echo came within $seconds s; ./scripts/demo_message_flow.sh finds where the way ends"

push_trace=$(random 16)
push_span=$(random 8)
step 4 'Have PHP push to that user, in a trace of its own.'
printf "\$ curl %s/api/push-demo/%s -H \"X-Demo-Key: \$DEMO_API_KEY\" -H 'traceparent: 00-%s-%s-01' -d '{}'\n" \
    "$app" "$user" "$push_trace" "$push_span"
api --header "traceparent: 00-$push_trace-$push_span-01" --data-binary '{}' "$app/api/push-demo/$user" >"$work/answer" ||
    fail 'the demo does not answer'
push_was_taken

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
