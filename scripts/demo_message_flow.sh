#!/usr/bin/env bash
# Follows one message from a client to PHP, and one push from PHP to the client, through everything in between.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/curl_header.sh
. scripts/curl_header.sh
# shellcheck source=scripts/compose_settings.sh
. scripts/compose_settings.sh

usage() {
    cat <<'USAGE'
Usage: demo_message_flow.sh [--compose] [USER]

Connects to the gateway as USER (default 42), sends a message, waits until the Symfony demo has it, has the demo push
to USER, and waits until the client has that. It prints every step and starts nothing but the client: gateway, demo
and, in core mode, ws:consume must run (docs/symfony.md).

With --compose it takes the compose stack of this machine: its ports, and the keys of .env.

Settings come from the environment:

  APP_URL               the demo (default http://localhost:8080)
  DEMO_API_KEY          its key
  WS_URL                where clients connect (default ws://localhost:8000/ws)
  JWT_PRIVATE_KEY_FILE  what signs the client's token (default keys/private.pem)
  FLOW_SECONDS          how long to wait for each step (default 15)

Exit status: 0 if both arrived, 1 if not, 2 if the arguments are wrong.
USAGE
}

fail() {
    printf 'demo_message_flow.sh: %s\n' "$1" >&2
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
client=''
# Called by the trap.
# shellcheck disable=SC2317
clean_up() {
    [ -z "$client" ] || kill "$client" 2>/dev/null || true
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

step 1 'Ask the demo how it talks with the gateway.'
printf '$ curl %s/api/ping\n' "$app"
ping=$(curl --silent --show-error --fail --max-time 10 "$app/api/ping") || fail "the demo does not answer at $app: is it running?"
printf '%s\n' "$ping"

flow=flow-$$-$RANDOM$RANDOM
message="{\"type\":\"note\",\"text\":\"hello from a client\",\"flow\":\"$flow\"}"
step 2 "Connect as user $user, and send a message."
printf "\$ JWT_PRIVATE_KEY_FILE=%s JWT_USER_ID=%s WS_URL=%s WS_MESSAGE_JSON='%s' python3 scripts/ws_client.py\n" \
    "$JWT_PRIVATE_KEY_FILE" "$user" "$WS_URL" "$message"
WS_MESSAGE_JSON=$message PYTHONUNBUFFERED=1 "$python" scripts/ws_client.py >"$work/out" 2>"$work/err" &
client=$!
is_connected() { grep -q 'connected to' "$work/err" || ! kill -0 "$client" 2>/dev/null; }
eventually is_connected || fail "the client does not connect to $WS_URL"
kill -0 "$client" 2>/dev/null || fail "the client ended: $(cat "$work/err")"
cat "$work/err"

step 3 'Wait until PHP has it: what the gateway made of it is an event.'
printf "\$ curl %s/api/ws/last-message -H \"X-Demo-Key: \$DEMO_API_KEY\"\n" "$app"
has_message() {
    api "$app/api/ws/last-message" >"$work/answer" 2>&1 || return 1
    case $(tail -n 1 "$work/answer") in
        401 | 403) fail "the demo refuses the key: $(head -n 1 "$work/answer")" ;;
    esac
    grep -q "$flow" "$work/answer"
}
eventually has_message || fail "PHP did not get the message within $seconds s: in terminator mode, does SYMFONY_WEBHOOK_URL of the gateway name the demo, with the same secret; in core mode, does ws:consume run?"
head -n 1 "$work/answer"

push="{\"type\":\"demo\",\"text\":\"hello from PHP\",\"flow\":\"$flow\"}"
step 4 'Have PHP push to that user.'
printf "\$ curl %s/api/push-demo/%s -H \"X-Demo-Key: \$DEMO_API_KEY\" -d '%s'\n" "$app" "$user" "$push"
api --data-binary "$push" "$app/api/push-demo/$user" >"$work/answer" || fail 'the demo does not answer'
head -n 1 "$work/answer"
[ "$(tail -n 1 "$work/answer")" = 200 ] || fail 'the push was not taken'

step 5 'See what the client got.'
has_push() { grep -q "\"payload\":.*$flow" "$work/out"; }
eventually has_push || fail "the push did not reach the client within $seconds s"
grep "$flow" "$work/out"

printf '\nBoth ways work.\n'
