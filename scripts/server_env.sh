#!/usr/bin/env bash
# Writes .env for the compose stack on a server, with random secrets: what .env.example has, less what is for one's own
# machine only.
#
#   server_env.sh DOMAIN EMAIL          terminator mode
#   server_env.sh DOMAIN EMAIL --core   core mode
#
# DOMAIN is where clients connect, EMAIL whom Let's Encrypt warns. An .env that is there is left alone. It needs openssl.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }
fail() {
    printf 'server_env.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

case "$# ${1:-}" in
    "1 --help" | "1 -h") usage; exit 0 ;;
esac
case "$# ${3:-}" in
    "2 ") files=docker-compose.yaml:docker-compose.prod.yaml ;;
    "3 --core") files=docker-compose.yaml:docker-compose.brokers.yaml:docker-compose.realtime-core.yaml:docker-compose.prod.yaml ;;
    *) usage >&2; exit 2 ;;
esac
[[ $1 =~ ^[A-Za-z0-9.-]+$ ]] || fail 'DOMAIN is a name such as ws.example.org, without wss:// or a path' 2
[[ $2 =~ ^[^@[:space:]]+@[^@[:space:]]+$ ]] || fail 'EMAIL is an address such as you@example.org' 2
[ ! -e .env ] || fail '.env is there already'
command -v openssl >/dev/null || fail 'openssl is missing'
# The demo must own its key, and does not run as root.
user=$(id -u) group=$(id -g)
[ "$user" != 0 ] || user=1000 group=1000

umask 077
new=$(mktemp .env.XXXXXX)
trap 'rm -f "$new"' EXIT
while IFS= read -r line; do
    case $line in
        COMPOSE_FILE=*) line=COMPOSE_FILE=$files ;;
        '#WSGW_DOMAIN='*) line=WSGW_DOMAIN=$1 ;;
        '#ACME_EMAIL='*) line=ACME_EMAIL=$2 ;;
        '#SECRETS_ARE_MY_OWN='*) line=SECRETS_ARE_MY_OWN=yes ;;
        SYMFONY_UID=*) line=SYMFONY_UID=$user ;;
        SYMFONY_GID=*) line=SYMFONY_GID=$group ;;
        *=local-only*) line=${line%%=*}=$(openssl rand -hex 32) ;;
    esac
    printf '%s\n' "$line"
done <.env.example >"$new"
mv "$new" .env
trap - EXIT
printf '.env is written. Next: ./scripts/gen_dev_keys.sh, or your own keys in keys/; then docker compose up --build --detach --wait\n'
