#!/usr/bin/env bash
# Builds the gateway's image from the Dockerfile as it is, and tests it, the compose stacks and the quick starts.
#
#   image_test.sh [pytest arguments]
#
# IMAGE_BUILD_ARGS is handed to `docker build`: --build-context build=docker-image://NAME takes what that one has in /image
# instead of compiling.
#
# Uses the Docker engine that runs; where none does, it gets one from Debian's packages, needs root, and removes it at the
# end. Where images cannot be pulled, those that are built upon are made from Debian's packages, too. Nothing is skipped:
# what cannot be tested fails. About 12 minutes on two cores at the first time, most of them for compiling.
set -euo pipefail
cd "$(dirname "$0")/.."

export PATH=$PATH:/usr/sbin:/sbin

say() { printf '\n-- %s\n' "$*"; }
fail() {
    printf 'image_test.sh: %s\n' "$1" >&2
    exit 1
}

python=target/venv/bin/python
[ -x "$python" ] || python=python3
"$python" -c 'import jwt, pytest, websockets' 2>/dev/null ||
    fail 'libraries are missing: ./scripts/test.sh image installs them'
command -v composer >/dev/null || fail 'Composer and the PHP libraries are missing: ./scripts/test.sh image installs them'

work=$(mktemp -d /tmp/wsgw-image.XXXXXX)
made=()
is_own=''
# Called by the trap.
# shellcheck disable=SC2317
clean_up() {
    local code=$?
    if [ -n "$is_own" ]; then
        local pid
        pid=$(cat "$work/dockerd.pid" 2>/dev/null || true)
        if [ -n "$pid" ]; then
            # Its containers, and containerd, end with it.
            docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes >/dev/null 2>&1 || true
            # Their bridges are the machine's, and would stay.
            docker network prune --force >/dev/null 2>&1 || true
            kill "$pid" 2>/dev/null || true
            while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
        fi
        [ $code = 0 ] || tail -n 20 "$work/dockerd.log" >&2 2>/dev/null || true
    else
        docker image rm --force wsgw:test wsgw-symfony:test "${made[@]}" >/dev/null 2>&1 || true
    fi
    rm -rf "$work" || true
}
trap clean_up EXIT
trap 'exit 130' INT TERM

works() { docker version >/dev/null 2>&1 && docker compose version >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1; }
if works; then
    say "the engine that runs: $(docker version --format '{{.Server.Version}}')"
else
    [ "$(id -u)" = 0 ] || fail 'no Docker engine with compose and buildx answers, and starting one needs root'
    for command in mmdebstrap runc iptables dpkg apt-get setsid; do
        command -v "$command" >/dev/null || fail "$command is missing: ./scripts/test.sh image installs it"
    done
    say 'no engine runs: one from Debian'
    tests/image/engine.sh get "$work"
    is_own=1
    export DOCKER_HOST=unix://$work/docker.sock DOCKER_CONFIG=$work/config PATH=$work/bin:$PATH
    unset DOCKER_CONTEXT
    tests/image/engine.sh start "$work"
    for _ in $(seq 300); do
        works && break
        sleep 0.2
    done
    works || fail 'the engine does not start; the end of its log is below'
fi

say 'the images that are built upon'
for image in debian:bookworm-slim rust:1-bookworm traefik:v3.7 redis:7-bookworm rabbitmq:4-management; do
    docker image inspect "$image" >/dev/null 2>&1 && continue
    # An engine of our own asks no registry.
    { [ -z "$is_own" ] && timeout 300 docker pull --quiet "$image" 2>/dev/null; } || made+=("$image")
done
if [ ${#made[@]} -gt 0 ]; then
    command -v mmdebstrap >/dev/null || fail 'images can neither be pulled nor made: mmdebstrap is missing'
    printf 'made from Debian: %s\n' "${made[*]}"
    tests/image/engine.sh bases
    tests/image/engine.sh services
fi
tests/image/engine.sh vendor "$work/vendor"

say 'the image'
commit=${WSGW_COMMIT:-$(git rev-parse --short=12 HEAD)}
started=$SECONDS
# shellcheck disable=SC2086
docker build --progress=plain --tag wsgw:test --build-arg "WSGW_COMMIT=$commit" ${IMAGE_BUILD_ARGS:-} . >"$work/build.log" 2>&1 ||
    { tail -n 40 "$work/build.log" >&2; fail 'the image cannot be built'; }
docker image inspect --format "built in $((SECONDS - started)) s, {{.Size}} bytes" wsgw:test

say 'the tests'
WSGW_TEST_IMAGE=wsgw:test WSGW_TEST_COMMIT=$commit WSGW_TEST_VENDOR=$work/vendor \
    "$python" -m pytest -q "$@" tests/test_compose.py tests/test_image.py
