#!/usr/bin/env bash
# Says whether a running gateway traces, whether its collector takes the spans, and whether it goes by sampled flags.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/curl_header.sh
. scripts/curl_header.sh
# shellcheck source=scripts/compose_settings.sh
. scripts/compose_settings.sh

usage() {
    cat <<'USAGE'
Usage: tracing_runtime_check.sh [--compose]

Looks at the gateway's metrics, pushes to a subject that nobody listens to, once in a trace that is recorded and once in one
that is not, and, if it can sign a token, sends a message. Says after each whether spans were exported, as the metrics
count them; on a busy gateway others' are among them, and the checks of what must not be exported are left out.

With --compose it takes the compose stack of this machine: its ports, and the keys of .env.

Settings come from the environment:

  WS_GATEWAY_BASE_URL   the gateway's internal API (default http://localhost:8000)
  GATEWAY_API_KEY       its key
  METRICS_URL           its metrics, if they are elsewhere (default the same, /metrics)
  TRACE_SECONDS         how long to wait for an export (default 10)
  WS_URL                where clients connect (default ws://localhost:8000/ws)
  JWT_PRIVATE_KEY_FILE  what signs a client's token; without it and WS_TOKEN no message is sent
  JWT_USER_ID           the client's user (default 42)

Exit status: 0 if the gateway traces and exports, 1 if not, 2 if the arguments are wrong.
USAGE
}

fail() {
    printf 'tracing_runtime_check.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

if [ "${1:-}" = --compose ]; then
    compose_settings
    shift
fi
case ${1:-} in
    --help | -h) usage; exit 0 ;;
    ?*) fail "unknown argument $1; try --help" 2 ;;
esac
url=${WS_GATEWAY_BASE_URL:-http://localhost:8000}
url=${url%/}
metrics=${METRICS_URL:-$url/metrics}
seconds=${TRACE_SECONDS:-10}
[ -n "${GATEWAY_API_KEY:-}" ] || fail 'set GATEWAY_API_KEY to the key that the gateway was started with'
key=$(curl_header X-API-Key "$GATEWAY_API_KEY") || fail 'GATEWAY_API_KEY has a line break' 2

code=0
ok() { printf 'ok      %s\n' "$1"; }
failed() { printf 'FAILED  %s\n' "$1"; code=1; }
skipped() { printf 'skipped %s\n' "$1"; }
random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# The sum of a counter over its labels; 0 where the gateway does not count yet.
count() { # name [labels, as they are written]
    curl --silent --show-error --fail --max-time 10 "$metrics" |
        awk -v name="$1" -v labels="${2:-}" '
            index($1, name) == 1 && (substr($1, length(name) + 1, 1) ~ /^[{]?$/) && index($0, labels) { sum += $NF }
            END { printf "%d", sum }'
}

exported() { count wsgw_spans_exported_total; }

push() { # traceparent
    # The key goes by standard input: arguments can be seen by everybody on the machine.
    printf '%s\n' "$key" |
        curl --silent --show-error --max-time 10 --config - --output /dev/null --write-out '%{http_code}' \
            --header 'Content-Type: application/json' \
            --data-binary "{\"subjects\":[\"tracing-check:$(random 8)\"],\"payload\":{},\"traceparent\":\"$1\"}" \
            "$url/internal/publish"
}

# Waits until more spans are exported than there were, or the export of some failed.
more_than() { # exported before
    local end=$((SECONDS + seconds))
    until [ "$(exported)" -gt "$1" ]; do
        if [ $SECONDS -ge $end ]; then return 1; fi
        sleep 0.2
    done
}

why_not() { # failures before
    if [ "$(count wsgw_span_exports_failed_total)" -gt "$1" ] || [ "$(count wsgw_spans_dropped_total 'reason="paused"')" -gt "$paused" ]; then
        failed 'no span was exported: the collector does not take them. Is OTEL_EXPORTER_OTLP_ENDPOINT right, with the port of OTEL_EXPORTER_OTLP_PROTOCOL (4318 for http/protobuf, 4317 for grpc)? The log has trace_export_failed with the reason'
    else
        failed 'no span was made: is TRACING_STRATEGY=full, TRACING_EXPORTER=otlp or stdout, and TRACING_SAMPLE_RATE above 0?'
    fi
}

printf '1. What the gateway says of itself.\n'
curl --silent --output /dev/null --max-time 10 "$url/health" || fail "the gateway does not answer at $url: is it running?"
curl --silent --show-error --fail --output /dev/null --max-time 10 "$metrics" 2>/dev/null ||
    fail "there are no metrics at $metrics: set METRICS_URL"
before=$(exported)
failures=$(count wsgw_span_exports_failed_total)
paused=$(count wsgw_spans_dropped_total 'reason="paused"')
ok "it counts: $before spans exported, $failures exports failed, $(count wsgw_spans_dropped_total) spans dropped since it began"

printf '\n2. A push in a trace that is recorded.\n'
parent="00-$(random 16)-$(random 8)-01"
status=$(push "$parent") || fail "the gateway does not answer at $url"
case $status in
    200) ok "the gateway took it, with traceparent $parent" ;;
    401) fail 'the gateway refuses the key: GATEWAY_API_KEY is not the one that it was started with' ;;
    403) fail 'the gateway has no key, and refuses every call: start it with GATEWAY_API_KEY' ;;
    *) fail "the gateway answered $status" ;;
esac
is_tracing=1
if more_than "$before"; then
    ok "its span was exported: there are $(exported) now"
else
    is_tracing=''
    why_not "$failures"
fi

printf '\n3. A push in a trace that is not.\n'
# Spans of others would be taken for this one's.
quiet=$(exported)
sleep 2
if [ -z "$is_tracing" ]; then
    skipped 'nothing is exported anyway'
elif [ "$(exported)" != "$quiet" ]; then
    skipped 'others are being traced just now, so that nothing can be said'
else
    quiet=$(exported)
    push "${parent%01}00" >/dev/null
    sleep 3
    if [ "$(exported)" = "$quiet" ]; then
        ok 'no span was exported: the gateway goes by the sampled flag'
    else
        failed 'a span was exported, though its trace is not recorded, unless somebody else was traced meanwhile: try again'
    fi
fi

printf '\n4. A message of a client.\n'
python=target/venv/bin/python
[ -x "$python" ] || python=python3
if [ -z "$is_tracing" ]; then
    skipped 'nothing is exported anyway'
elif [ -z "${JWT_PRIVATE_KEY_FILE:-}${WS_TOKEN:-}" ]; then
    skipped 'set JWT_PRIVATE_KEY_FILE or WS_TOKEN'
elif ! "$python" -c 'import jwt, websockets' 2>/dev/null; then
    skipped "the client needs some libraries: $python -m pip install -r scripts/requirements.txt"
else
    before=$(exported)
    message="{\"type\":\"tracing-check\",\"traceparent\":\"00-$(random 16)-$(random 8)-01\"}"
    if WS_MESSAGE_JSON=$message WS_RECEIVE_SECONDS=1 "$python" scripts/ws_client.py >/dev/null; then
        # The connection's, and the message's.
        if more_than $((before + 1)); then
            ok "spans of the connection and the message were exported: there are $(exported) now"
        else
            failed 'spans of the connection or the message are missing: does the pipeline have the stage trace, and is TRACING_SAMPLE_RATE 1?'
        fi
    else
        failed 'the client did not get through; its own words are above'
    fi
fi

if [ $code != 0 ]; then exit $code; fi
printf '\nThe gateway traces.\n'
