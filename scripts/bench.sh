#!/usr/bin/env bash
# Builds the gateway and the load tool, runs every macro benchmark on private ports of this
# machine, and prints one table. Nothing keeps running afterwards.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: bench.sh [--quick] [--no-build] [--only NAME] [--out DIR]

Runs the macro benchmarks of benches/README.md against target/release/wsgw: idle, rtt, churn,
fan-out (burst and paced) and inbound to a webhook (burst, paced, and with failing answers).

Options:
  --quick      a tenth of the load: shows that all works, the figures mean little
  --no-build   use the binaries as they are
  --only NAME  run one benchmark: idle, rtt, churn, fanout or inbound
  --out DIR    keep the results, the gateway's logs and the keys there
  --help       show this text

Environment:
  WSGW_BENCH_PORT   first of two ports to use on 127.0.0.1 (default 18400)

Exit status: 0 when nothing was lost or came out of order, else 1.
USAGE
}

fail() {
    printf 'bench.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

note() {
    printf '%s\n' "$*" >&2
}

build=true
only=''
out=''
scale=1
while (($#)); do
    case $1 in
        --quick) scale=10 ;;
        --no-build) build=false ;;
        --only)
            only=${2:?--only needs a name}
            [[ $only =~ ^(idle|rtt|churn|fanout|inbound)$ ]] || fail "no benchmark is called $only, see --help" 2
            shift
            ;;
        --out)
            out=${2:?--out needs a directory}
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) fail "unknown argument $1, see --help" 2 ;;
    esac
    shift
done

# Before the change of directory, which would give a relative path another meaning.
if [[ -n $out ]]; then
    mkdir -p -- "$out"
    out=$(cd -- "$out" && pwd)
fi
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# The paths below are those of a build without it.
unset CARGO_TARGET_DIR

gateway_pid=''
temporary=''

stop_gateway() {
    [[ -n $gateway_pid ]] || return 0
    kill -TERM "$gateway_pid" 2>/dev/null || true
    # Draining may take a while, but an ill-behaved build must not keep the ports.
    for _ in {1..100}; do
        kill -0 "$gateway_pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$gateway_pid" 2>/dev/null || true
    wait "$gateway_pid" 2>/dev/null || true
    gateway_pid=''
}

clean_up() {
    stop_gateway
    [[ -z $temporary ]] || rm -rf -- "$temporary"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [[ -z $out ]]; then
    temporary=$(mktemp -d)
    out=$temporary
fi

if $build; then
    cargo build --release --bin wsgw
    cargo build --release --manifest-path benches/load/Cargo.toml
fi
readonly gateway=target/release/wsgw
readonly load=benches/load/target/release/wsgw-load
for binary in "$gateway" "$load"; do
    [[ -x $binary ]] || fail "$binary is missing; run without --no-build"
done

# The soft limit is often 1,024, too few for either side.
ulimit -n "$(ulimit -Hn)"

readonly host=127.0.0.1
readonly port=${WSGW_BENCH_PORT:-18400}
readonly webhook_port=$((port + 1))
readonly base=http://$host:$port
api_key=$(openssl rand -hex 16)
# By the environment, since other users of the machine can read command lines.
export GATEWAY_API_KEY=$api_key
[[ -f $out/keys/private.pem ]] || scripts/gen_dev_keys.sh "$out/keys" >/dev/null
results=$out/results.jsonl
: >"$results"

# A fresh process for each benchmark: what one leaves in the allocator is no part of the next.
# Only what is named here reaches it, so that a developer's own settings do not change figures.
start_gateway() {
    local name=$1 events=$2
    # A stranger on the port would be measured instead, since the gateway could not bind it.
    if (: <"/dev/tcp/$host/$port") 2>/dev/null; then
        fail "port $port is taken; choose another with WSGW_BENCH_PORT"
    fi
    env -i PATH="$PATH" \
        WS_MODE=terminator EVENTS_MODE="$events" WSGW_LISTEN="$host:$port" LOG_LEVEL=warn \
        JWT_ALG=RS256 JWT_PUBLIC_KEY_FILE="$out/keys/public.pem" GATEWAY_API_KEY="$api_key" \
        SYMFONY_WEBHOOK_URL="http://$host:$webhook_port/ws" SYMFONY_WEBHOOK_SECRET=bench \
        WEBHOOK_RETRY_ATTEMPTS=10 WEBHOOK_RETRY_BASE_SECONDS=0.05 WS_RATE_LIMIT_PER_SEC=0 \
        BACKPRESSURE_PER_CONN_BUFFER=512 BACKPRESSURE_GLOBAL_BUFFER=1000000 \
        "$gateway" run pipelines/terminator.yaml >"$out/$name.log" 2>&1 &
    gateway_pid=$!
    for _ in {1..100}; do
        if curl --silent --fail --output /dev/null --max-time 1 "$base/ready"; then
            return
        fi
        kill -0 "$gateway_pid" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$out/$name.log" >&2
    fail "the gateway did not get ready on port $port"
}

failed=false

# measure NAME EVENTS_MODE LOAD-TOOL-ARGUMENTS...
measure() {
    local name=$1 events=$2 mode=$3
    shift 2
    [[ -z $only || $only == "$mode" ]] || return 0
    note "== $name"
    start_gateway "$name" "$events"
    "$load" "$@" --label "$name" --json --url "ws://$host:$port/ws" --server-pid "$gateway_pid" \
        --private-key "$out/keys/private.pem" >>"$results" || failed=true
    stop_gateway
}

readonly publish=(--publish-url "$base/internal/publish")
readonly webhook=(--webhook-listen "$host:$webhook_port")

measure idle none idle --connections $((5000 / scale)) --hold-seconds 5
measure rtt none rtt --connections 50 --seconds 5
measure churn none churn --rate 200 --seconds $((10 / scale))
measure fanout-burst none fanout --connections $((1000 / scale)) --pushes 200 --burst "${publish[@]}"
measure fanout-paced none fanout --connections $((1000 / scale)) --pushes $((200 / scale)) --rate 20 "${publish[@]}"
measure inbound-burst webhook inbound --messages $((20000 / scale)) --rate burst "${webhook[@]}"
measure inbound-paced webhook inbound --messages $((10000 / scale)) --rate 1000 "${webhook[@]}"
measure inbound-failing webhook inbound --messages $((5000 / scale)) --rate 1000 --fail-percent 1 "${webhook[@]}"

echo
"$load" summary "$results" || failed=true
if $failed; then
    [[ -z $temporary ]] || note 'Run again with --out DIR to keep the logs.'
    exit 1
fi
