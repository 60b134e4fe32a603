# shellcheck shell=bash
# What demo_message_flow.sh and tracing_e2e_check.sh share: their settings, the client, the demo's API, the steps that they
# print. Sourced from the project's root, after `usage` is there, with the script's arguments.
# shellcheck source=scripts/curl_header.sh
. scripts/curl_header.sh
# shellcheck source=scripts/compose_settings.sh
. scripts/compose_settings.sh

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
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
[ -n "${DEMO_API_KEY:-}" ] || fail 'set DEMO_API_KEY to the key that the demo was started with'
key=$(curl_header X-Demo-Key "$DEMO_API_KEY") || fail 'DEMO_API_KEY has a line break' 2
python=target/venv/bin/python
[ -x "$python" ] || python=python3
"$python" -c 'import jwt, websockets' 2>/dev/null ||
    fail "the client needs some libraries: $python -m pip install -r scripts/requirements.txt"

work=$(mktemp -d)
# What was started, and ends with the script.
children=()
# Called by the trap.
# shellcheck disable=SC2317
clean_up() {
    [ ${#children[@]} = 0 ] || kill "${children[@]}" 2>/dev/null || true
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

step() { printf '\n%s. %s\n' "$1" "$2"; }

# Sets and prints `ping`: how the demo talks with the gateway.
ask_demo() {
    printf '$ curl %s/api/ping\n' "$app"
    ping=$(curl --silent --show-error --fail --max-time 10 "$app/api/ping") ||
        fail "the demo does not answer at $app: is it running?"
    printf '%s\n' "$ping"
}

# Connects as the user and sends one message. What the client gets is in $work/out.
start_client() { # message
    printf "\$ JWT_PRIVATE_KEY_FILE=%s JWT_USER_ID=%s WS_URL=%s WS_MESSAGE_JSON='%s' python3 scripts/ws_client.py\n" \
        "$JWT_PRIVATE_KEY_FILE" "$user" "$WS_URL" "$1"
    WS_MESSAGE_JSON=$1 PYTHONUNBUFFERED=1 "$python" scripts/ws_client.py >"$work/out" 2>"$work/err" &
    client=$!
    children+=("$client")
    eventually is_connected || fail "the client does not connect to $WS_URL"
    kill -0 "$client" 2>/dev/null || fail "the client ended: $(cat "$work/err")"
}

is_connected() { grep -q 'connected to' "$work/err" || ! kill -0 "$client" 2>/dev/null; }

# Waits until the client got a push that has the text in it, and shows it.
see_push() { # text, what is wrong otherwise
    eventually grep -q "\"payload\":.*$1" "$work/out" || fail "$2"
    grep "$1" "$work/out"
}

# Prints the first line of the demo's answer to a push, which must be 200.
push_was_taken() {
    head -n 1 "$work/answer"
    [ "$(tail -n 1 "$work/answer")" = 200 ] || fail 'the push was not taken'
}
