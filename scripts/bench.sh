#!/usr/bin/env bash
# Builds the gateway, whose `wsgw bench` is the load tool, runs every macro benchmark on private
# ports of this machine, and prints one table. Nothing keeps running afterwards.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: bench.sh [--quick] [--no-build] [--only NAME] [--out DIR]

Runs the macro benchmarks of benches/README.md against target/release/wsgw, without --only all of them:
  idle, rtt, churn   connections that wait, ping, come and go
  fanout             pushes over HTTP to many clients (burst, paced)
  inbound            messages to a webhook (burst, paced, with failing answers)
  redis              messages to a Redis stream, pushes from one (each burst and paced)
  rabbitmq           messages to a RabbitMQ queue (burst, paced)
  presence           10,000 connections that wait, listed in Redis
  memory             10,000 connections that send 60 KiB each, and go: how much memory comes back
  reload             SIGHUP with another file, again and again, under 5,000 connections that wait
  archive            messages to a Redis stream, with and without the archive in SQLite by turns
  tracing            messages to a Redis stream, by turns without tracing, with it, and with a collector that is away

Options:
  --quick      a tenth of the load: shows that all works, the figures mean little
  --no-build   use the binary as it is
  --only NAME  run only these; may be repeated
  --out DIR    keep the results, the gateway's logs and the keys there
  --help       show this text

Environment:
  WSGW_BENCH_PORT   first of six ports to use on 127.0.0.1 (default 18400)

All from redis on, but reload, start a redis-server or RabbitMQ of their own in a temporary directory, and stop it.

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
only=()
out=''
scale=1
while (($#)); do
    case $1 in
        --quick) scale=10 ;;
        --no-build) build=false ;;
        --only)
            only+=("${2:?--only needs a name}")
            [[ $2 =~ ^(idle|rtt|churn|fanout|inbound|redis|rabbitmq|presence|memory|reload|archive|tracing)$ ]] ||
                fail "no benchmark is called $2, see --help" 2
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

wanted() {
    ((${#only[@]} == 0)) && return
    local name
    for name in "${only[@]}"; do
        [[ $name != "$1" ]] || return 0
    done
    return 1
}

# RabbitMQ's own wrapper in PATH changes the user; this one does not.
rabbitmq_server=''
for rabbitmq_server in /usr/lib/rabbitmq/bin/rabbitmq-server "$(command -v rabbitmq-server || true)"; do
    [[ ! -x $rabbitmq_server ]] || break
done
if wanted redis || wanted presence || wanted memory || wanted archive || wanted tracing; then
    command -v redis-server >/dev/null ||
        fail 'redis-server is missing (Debian: apt-get install redis-server); or name others with --only'
fi
if wanted rabbitmq; then
    if [[ ! -x $rabbitmq_server ]] || ! command -v epmd >/dev/null; then
        fail 'RabbitMQ is missing (Debian: apt-get install rabbitmq-server); or name others with --only'
    fi
fi

gateway_pid=''
collector_pid=''
redis_pid=''
rabbitmq_pid=''
epmd_pid=''
temporary=$(mktemp -d)

# Ends a child of this script, by force if it takes more than ten seconds.
stop() {
    local pid=$1
    [[ -n $pid ]] || return 0
    kill -TERM "$pid" 2>/dev/null || true
    # Draining may take a while, but an ill-behaved build must not keep the ports.
    for _ in {1..100}; do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

stop_gateway() {
    stop "$gateway_pid"
    gateway_pid=''
}

stop_redis() {
    stop "$redis_pid"
    redis_pid=''
}

stop_rabbitmq() {
    local beam=''
    # What listens is a grandchild, which outlives a wrapper that is killed.
    [[ ! -s $temporary/rabbitmq/pid ]] || beam=$(<"$temporary/rabbitmq/pid")
    stop "$rabbitmq_pid"
    rabbitmq_pid=''
    [[ -z $beam ]] || kill -KILL "$beam" 2>/dev/null || true
    stop "$epmd_pid"
    epmd_pid=''
}

clean_up() {
    stop_gateway
    stop "$collector_pid"
    stop_redis
    stop_rabbitmq
    rm -rf -- "$temporary"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

kept=true
if [[ -z $out ]]; then
    kept=false
    out=$temporary
fi

if $build; then
    cargo build --release --bin wsgw
fi
readonly gateway=target/release/wsgw
[[ -x $gateway ]] || fail "$gateway is missing; run without --no-build"

# The soft limit is often 1,024, too few for either side.
ulimit -n "$(ulimit -Hn)"

readonly host=127.0.0.1
readonly port=${WSGW_BENCH_PORT:-18400}
readonly webhook_port=$((port + 1))
readonly redis_port=$((port + 2))
readonly rabbitmq_port=$((port + 3))
readonly base=http://$host:$port
readonly redis_dsn=redis://$host:$redis_port
readonly rabbitmq_dsn=amqp://guest:guest@$host:$rabbitmq_port/%2f
api_key=$(openssl rand -hex 16)
# By the environment, since other users of the machine can read command lines.
export GATEWAY_API_KEY=$api_key
[[ -f $out/keys/private.pem ]] || scripts/gen_dev_keys.sh "$out/keys" >/dev/null
results=$out/results.jsonl
: >"$results"

# A stranger on the port would be measured instead, since ours could not bind it.
expect_free() {
    if (: <"/dev/tcp/$host/$1") 2>/dev/null; then
        fail "port $1 is taken; choose others with WSGW_BENCH_PORT"
    fi
}

# await_port PORT PID SECONDS
await_port() {
    local tries=$(($3 * 10))
    while ((tries-- > 0)); do
        (: <"/dev/tcp/$host/$1") 2>/dev/null && return
        kill -0 "$2" 2>/dev/null || break
        sleep 0.1
    done
    return 1
}

start_redis() {
    expect_free "$redis_port"
    redis-server --bind "$host" --port "$redis_port" --save '' --appendonly no --dir "$temporary" \
        >"$out/redis.log" 2>&1 &
    redis_pid=$!
    await_port "$redis_port" "$redis_pid" 10 || fail "redis-server does not start, see $out/redis.log"
}

# Once for all of its benchmarks, since it takes ten seconds and more.
start_rabbitmq() {
    local home=$temporary/rabbitmq
    expect_free "$rabbitmq_port"
    mkdir "$home"
    echo '[].' >"$home/enabled_plugins"
    printf '%s\n' "listeners.tcp.1 = $host:$rabbitmq_port" 'disk_free_limit.absolute = 50MB' >"$home/rabbitmq.conf"
    epmd -address "$host" -port $((port + 5)) &
    epmd_pid=$!
    HOME=$home RABBITMQ_NODENAME=bench$port@localhost RABBITMQ_NODE_IP_ADDRESS=$host \
        RABBITMQ_NODE_PORT=$rabbitmq_port RABBITMQ_DIST_PORT=$((port + 4)) ERL_EPMD_PORT=$((port + 5)) \
        ERL_EPMD_ADDRESS=$host RABBITMQ_MNESIA_BASE=$home/mnesia RABBITMQ_LOG_BASE=$home/log \
        RABBITMQ_GENERATED_CONFIG_DIR=$home/generated RABBITMQ_SCHEMA_DIR=$home/schema \
        RABBITMQ_CONFIG_FILE=$home/rabbitmq.conf RABBITMQ_ADVANCED_CONFIG_FILE=$home/advanced.config \
        RABBITMQ_CONF_ENV_FILE=$home/none.conf RABBITMQ_ENABLED_PLUGINS_FILE=$home/enabled_plugins \
        RABBITMQ_PID_FILE=$home/pid \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}' \
        "$rabbitmq_server" >"$out/rabbitmq.log" 2>&1 &
    rabbitmq_pid=$!
    await_port "$rabbitmq_port" "$rabbitmq_pid" 60 || fail "RabbitMQ does not start, see $out/rabbitmq.log"
}

# start_gateway NAME PIPELINE [VARIABLE=VALUE...]
# A fresh process for each benchmark: what one leaves in the allocator is no part of the next.
# Only what is named here reaches it, so that a developer's own settings do not change figures.
start_gateway() {
    local name=$1 pipeline=$2
    shift 2
    [[ $pipeline == /* ]] || pipeline=$PWD/pipelines/$pipeline.yaml
    expect_free "$port"
    mkdir -p "$temporary/$name"
    # In a directory of its own, where it may leave its files.
    env -i -C "$temporary/$name" PATH="$PATH" WSGW_LISTEN="$host:$port" LOG_LEVEL=warn \
        JWT_ALG=RS256 JWT_PUBLIC_KEY_FILE="$out/keys/public.pem" GATEWAY_API_KEY="$api_key" \
        WS_RATE_LIMIT_PER_SEC=0 BACKPRESSURE_PER_CONN_BUFFER=512 BACKPRESSURE_GLOBAL_BUFFER=1000000 "$@" \
        "$PWD/$gateway" run "$pipeline" >"$out/$name.log" 2>&1 &
    gateway_pid=$!
    for _ in {1..100}; do
        if curl --silent --fail --output /dev/null --max-time 1 "$base/ready"; then
            return
        fi
        kill -0 "$gateway_pid" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$out/$name.log" >&2
    curl --silent --max-time 1 "$base/ready" >&2 || true
    fail "the gateway did not get ready on port $port"
}

failed=false

# load NAME LOAD-TOOL-ARGUMENTS...
# Runs the load tool against the gateway that runs, and stops that.
load() {
    local name=$1
    shift
    "$gateway" bench "$@" --label "$name" --json --url "ws://$host:$port/ws" --server-pid "$gateway_pid" \
        --ramp 0 --key "$out/keys/private.pem" >>"$results" || failed=true
    stop_gateway
}

# measure NAME EVENTS_MODE LOAD-TOOL-ARGUMENTS...
measure() {
    local name=$1 events=$2
    wanted "$3" || return 0
    shift 2
    note "== $name"
    start_gateway "$name" terminator WS_MODE=terminator EVENTS_MODE="$events" \
        SYMFONY_WEBHOOK_URL="http://$host:$webhook_port/ws" SYMFONY_WEBHOOK_SECRET=bench \
        WEBHOOK_RETRY_ATTEMPTS=10 WEBHOOK_RETRY_BASE_SECONDS=0.05
    load "$name" "$@"
}

# measure_redis NAME [VARIABLE=VALUE...] -- LOAD-TOOL-ARGUMENTS...
measure_redis() {
    local name=$1 variables=()
    shift
    while [[ $1 != -- ]]; do
        variables+=("$1")
        shift
    done
    shift
    note "== $name"
    start_redis
    start_gateway "$name" core WS_MODE=core REDIS_DSN="$redis_dsn" "${variables[@]}"
    load "$name" "$@" --broker-pid "$redis_pid"
    stop_redis
}

# measure_tracing NAME [VARIABLE=VALUE...]
# After a warm-up, in which a collector that is away is found out.
measure_tracing() {
    local name=$1
    shift
    note "== $name"
    start_redis
    start_gateway "$name" core WS_MODE=core REDIS_DSN="$redis_dsn" "$@"
    "$gateway" bench inbound --messages 5000 --rate 2000 --redis "$redis_dsn" --url "ws://$host:$port/ws" \
        --key "$out/keys/private.pem" >/dev/null
    load "$name" inbound --messages $((500000 / scale)) --rate burst --redis "$redis_dsn" --broker-pid "$redis_pid"
    stop_redis
}

# measure_rabbitmq NAME LOAD-TOOL-ARGUMENTS...
measure_rabbitmq() {
    local name=$1
    shift
    note "== $name"
    start_gateway "$name" core WS_MODE=core RABBITMQ_DSN="$rabbitmq_dsn" RABBITMQ_INBOX_QUEUE=ws.inbox
    load "$name" "$@" --rabbitmq "amqp://$host:$rabbitmq_port" --broker-pid "$(<"$temporary/rabbitmq/pid")"
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

if wanted redis; then
    measure_redis redis-inbound-burst -- inbound --messages $((100000 / scale)) --rate burst --redis "$redis_dsn"
    measure_redis redis-inbound-paced -- inbound --messages $((10000 / scale)) --rate 1000 --redis "$redis_dsn"
    measure_redis redis-fanout-burst -- \
        fanout --connections $((1000 / scale)) --pushes 200 --burst --redis "$redis_dsn"
    measure_redis redis-fanout-paced -- \
        fanout --connections $((1000 / scale)) --pushes $((200 / scale)) --rate 20 --redis "$redis_dsn"
fi

if wanted rabbitmq; then
    start_rabbitmq
    measure_rabbitmq rabbitmq-inbound-burst inbound --messages $((50000 / scale)) --rate burst
    measure_rabbitmq rabbitmq-inbound-paced inbound --messages $((10000 / scale)) --rate 1000
    stop_rabbitmq
fi

if wanted presence; then
    # Half of the time to live goes by between two refreshes of a connection: so long, to see each one's once.
    measure_redis presence PRESENCE_REDIS_DSN="$redis_dsn" PRESENCE_TTL_SECONDS=120 -- \
        idle --connections $((10000 / scale)) --hold-seconds $((60 / scale))
fi

# Kilobytes of memory of the gateway: all of it, what is its own.
memory_of_gateway() {
    awk '/^Pss:/ { all = $2 } /^Pss_Anon:/ { own = $2 } END { print all, own }' "/proc/$gateway_pid/smaps_rollup"
}

memory_figures=''
if wanted memory; then
    note '== memory'
    start_redis
    start_gateway memory core WS_MODE=core REDIS_DSN="$redis_dsn" PRESENCE_REDIS_DSN="$redis_dsn"
    memory_before=$(memory_of_gateway)
    "$gateway" bench inbound --connections $((10000 / scale)) --messages $((10000 / scale)) --payload-bytes 61440 \
        --rate burst --ramp 0 --redis "$redis_dsn" --url "ws://$host:$port/ws" --server-pid "$gateway_pid" \
        --key "$out/keys/private.pem" --label memory --json >>"$results" || failed=true
    # What is free stays with the allocator for ten seconds, lest it is needed again.
    sleep 25
    memory_figures="$memory_before $(memory_of_gateway)"
    stop_gateway
    stop_redis
fi

reload_times=''
if wanted reload; then
    note '== reload'
    pipeline=$temporary/reload.yaml
    cp pipelines/terminator.yaml "$pipeline"
    start_gateway reload "$pipeline" WS_MODE=terminator EVENTS_MODE=webhook LOG_LEVEL=info \
        SYMFONY_WEBHOOK_URL="http://$host:$webhook_port/ws"
    reloading=$gateway_pid
    (
        # Once the connections are there; the tool holds them for longer than this takes.
        while [[ $(grep -c '"event":"ws_connected"' "$out/reload.log") -lt $((5000 / scale)) ]]; do
            sleep 0.2
        done
        sleep 2
        for turn in {1..20}; do
            # Another limit by turns, so that there is something to change.
            sed "s/leeway: .*/leeway: $((turn % 2))/" pipelines/terminator.yaml >"$pipeline.next"
            mv -- "$pipeline.next" "$pipeline"
            kill -HUP "$reloading"
            sleep 0.3
        done
    ) &
    reloads=$!
    load reload idle --connections $((5000 / scale)) --hold-seconds 15
    kill "$reloads" 2>/dev/null || true
    wait "$reloads" 2>/dev/null || true
    reload_times=$(sed -n 's/.*"event":"reloaded".*"total_ms":\([0-9.]*\).*/\1/p' "$out/reload.log" | sort -n)
fi

if wanted archive; then
    # By turns, so that whatever else the machine does meets both.
    for _ in 1 2 3; do
        for strategy in none durable; do
            measure_redis "archive-$strategy" REPLAY_STRATEGY=$strategy \
                REPLAY_ARCHIVE_DSN="sqlite://$temporary/archive-$RANDOM.db" -- \
                inbound --messages $((50000 / scale)) --rate burst --redis "$redis_dsn"
        done
    done
fi

if wanted tracing; then
    python3 benches/collector.py $((port + 4)) &
    collector_pid=$!
    await_port $((port + 4)) "$collector_pid" 10 || fail 'the collector does not start; is python3 there?'
    for _ in 1 2 3; do
        measure_tracing tracing-none
        # Port 9 is where nobody listens.
        for to in "full $((port + 4))" 'away 9'; do
            measure_tracing "tracing-${to% *}" TRACING_STRATEGY=full TRACING_EXPORTER=otlp \
                OTEL_EXPORTER_OTLP_ENDPOINT="http://$host:${to#* }"
        done
    done
    stop "$collector_pid"
    collector_pid=''
fi

echo
"$gateway" bench summary "$results" || failed=true
if [[ -n $memory_figures ]]; then
    read -r before own_before after own_after <<<"$memory_figures"
    printf 'memory: %d kB (its own %d kB) before, %d kB (%d kB) 25 seconds after the last connection went\n' \
        "$before" "$own_before" "$after" "$own_after"
fi
if [[ -n $reload_times ]]; then
    count=$(wc -l <<<"$reload_times")
    printf 'reload: %d times, from the signal to the new configuration: median %s ms, longest %s ms\n' "$count" \
        "$(sed -n "$(((count + 1) / 2))p" <<<"$reload_times")" "$(tail -n 1 <<<"$reload_times")"
fi
if wanted archive; then
    "$gateway" bench compare archive-none archive-durable "$results" || failed=true
fi
if wanted tracing; then
    "$gateway" bench compare tracing-none tracing-full "$results" || failed=true
    "$gateway" bench compare tracing-none tracing-away "$results" || failed=true
fi
if $failed; then
    $kept || note 'Run again with --out DIR to keep the logs.'
    exit 1
fi
