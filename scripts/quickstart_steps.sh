# shellcheck shell=bash
# What both quick starts do, once COMPOSE_FILE says which stack.

# Shows a command, and runs it.
show_and_run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

quickstart() {
    case ${1:-} in
        '') ;;
        --down) docker compose down; return ;;
        --help | -h) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; return ;;
        *) printf '%s: unknown argument %s; try --help\n' "$0" "$1" >&2; return 2 ;;
    esac
    docker compose version >/dev/null 2>&1 || { printf '%s: Docker with compose is needed\n' "$0" >&2; return 1; }

    [ -e keys/private.pem ] || show_and_run ./scripts/gen_dev_keys.sh
    # The demo signs tokens with a key that only its owner may read; but it does not run as root.
    local owner
    owner=$(id -u)
    if [ "$owner" = 0 ]; then
        owner=1000
        show_and_run chown "$owner" keys/private.pem
    fi
    if [ ! -e .env ]; then
        printf '\n$ sed "s/^SYMFONY_UID=.*/SYMFONY_UID=%s/" .env.example >.env\n' "$owner"
        sed "s/^SYMFONY_UID=.*/SYMFONY_UID=$owner/" .env.example >.env
    fi
    show_and_run docker compose up --build --detach --wait
    if [ ! -x target/venv/bin/python ]; then
        show_and_run python3 -m venv target/venv
        show_and_run target/venv/bin/pip install --quiet -r scripts/requirements.txt
    fi
    show_and_run ./scripts/demo_message_flow.sh --compose
    printf '\nThe stack runs on; %s --down stops it.\n' "$0"
}
