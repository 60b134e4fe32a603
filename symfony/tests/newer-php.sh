#!/usr/bin/env bash
# Loads every class and runs the bundle's unit tests with PHP 8.4 and 8.5, which Debian 12 does not have: as WebAssembly,
# from npm, without ext-redis, processes and sockets. Fails when one fails, and at any deprecation in this project's code.
#
#   symfony/tests/newer-php.sh           after "composer update" in symfony/bundle
set -euo pipefail
cd "$(dirname "$0")/newer-php"

npm ci --silent --no-audit --no-fund --ignore-scripts
bundle=$(realpath ../../bundle)
demo=$(realpath ../../src)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

check() {
  local log=$logs/$1 classes
  php() { PHP=$version node node_modules/@php-wasm/cli/main.js -d error_reporting=-1 -d display_errors=1 "$@"; }
  local version=$1
  classes=$(php "$bundle/tests/Support/inherit.php" "Snoke\\WsBundle\\" "$bundle/src" "App\\" "$demo")
  if ! php -d include_path=/usr/share/php "$(command -v phpunit)" -c "$bundle/tests/newer-php.xml" >"$log" 2>&1; then
    grep -av '^Deprecated: .*/usr/share/php\|^$' "$log" >&2
    return 1
  fi
  # PHPUnit and Symfony are as old as Debian has them, and have some of their own.
  if grep -a "^Deprecated: .* $bundle/\(src\|config\|tests\)" "$log" >&2; then
    return 1
  fi
  echo "PHP $version: $classes classes; $(grep -a '^OK (\|^Tests:' "$log")"
}

pids=()
for version in 8.4 8.5; do
  check "$version" &
  pids+=($!)
done
for pid in "${pids[@]}"; do
  wait "$pid"
done
