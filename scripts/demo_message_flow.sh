#!/usr/bin/env bash
# Follows one message from a client to PHP, and one push from PHP to the client, through everything in between.
set -euo pipefail
cd "$(dirname "$0")/.."

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

# shellcheck source=scripts/demo_flow.sh
. scripts/demo_flow.sh

step 1 'Ask the demo how it talks with the gateway.'
ask_demo

flow=flow-$$-$RANDOM$RANDOM
message="{\"type\":\"note\",\"text\":\"hello from a client\",\"flow\":\"$flow\"}"
step 2 "Connect as user $user, and send a message."
start_client "$message"
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
push_was_taken

step 5 'See what the client got.'
see_push "$flow" "the push did not reach the client within $seconds s"

printf '\nBoth ways work.\n'
