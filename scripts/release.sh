#!/usr/bin/env bash
# Makes what a release consists of, or checks one that was downloaded.
#
#   ./scripts/release.sh build [DIRECTORY]        builds, packs and signs into DIRECTORY (target/packages)
#   ./scripts/release.sh verify DIRECTORY KEY     checks the signature, by the minisign public key file, and every checksum
#   ./scripts/release.sh version                  the version of Cargo.toml, if every file that names it says the same
#
# WSGW_SIGN_KEY         minisign's secret key file, without a password; without one nothing is signed
# WSGW_RELEASE_PROFILE  another Cargo profile than dist, which the image has too
# WSGW_RELEASE_BUILD=0  packs the program that is already built
#
# Times are the commit's, so that the same program gives the same archive and package, byte by byte.
# Needs what `scripts/test.sh release-tools` installs.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here"
PATH="$here/target/tools/bin:$PATH"

fail() { echo "scripts/release.sh: $*" >&2; exit 1; }

version() {
  local version other
  version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
  while read -r other; do
    [ "$other" = "$version" ] || fail "Cargo.toml says $version, deploy/helm/wsgw/Chart.yaml $other"
  done < <(sed -n 's/^\(appVersion\|version\): //p' deploy/helm/wsgw/Chart.yaml)
  echo "$version"
}

build() {
  local out version profile host name binary
  mkdir -p "${1:-target/packages}" target/man
  out=$(cd "${1:-target/packages}" && pwd)
  [ -z "$(find "$out" -name 'wsgw*' -print -quit)" ] || fail "$out has a release already"
  version=$(version)
  profile=${WSGW_RELEASE_PROFILE:-dist}
  host=$(rustc -vV | sed -n 's/^host: //p')
  name="wsgw-$version-$host"
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
  WSGW_COMMIT=${WSGW_COMMIT:-$(git rev-parse --short=12 HEAD)}
  export SOURCE_DATE_EPOCH WSGW_COMMIT LC_ALL=C TZ=UTC

  if [ "${WSGW_RELEASE_BUILD:-1}" = 1 ]; then
    [ -z "$(git status --porcelain)" ] || fail "there are changes that are not committed"
    local cargo_home=${CARGO_HOME:-$HOME/.cargo}
    # Kernels of arm64 may have pages of 64 KiB; the allocator runs where they are at most so large (2 to the power of 16).
    [ "$(uname -m)" != aarch64 ] || export JEMALLOC_SYS_WITH_LG_PAGE=16
    RUSTFLAGS="--remap-path-prefix=$here=/src --remap-path-prefix=$cargo_home=/cargo" \
      CARGO_INCREMENTAL=0 cargo build --locked --profile "$profile" --bin wsgw
  fi
  binary="target/${profile/#dev/debug}/wsgw"
  # A program that was not built here may not know its commit.
  case "${WSGW_RELEASE_BUILD:-1} $("$binary" --version)" in
    "1 wsgw $version ($WSGW_COMMIT)" | "0 wsgw $version" | "0 wsgw $version ($WSGW_COMMIT)") ;;
    *) fail "$binary is not version $version of commit $WSGW_COMMIT" ;;
  esac

  help2man --no-info --name "a WebSocket gateway" "$binary" >target/man/wsgw.1

  local tree
  tree=$(mktemp -d)
  trap 'rm -rf "${tree:-}"' EXIT
  mkdir "$tree/$name"
  install -m 755 "$binary" "$tree/$name/wsgw"
  strip --strip-debug "$tree/$name/wsgw"
  cp -r pipelines schemas LICENSE CHANGELOG.md SECURITY.md target/man/wsgw.1 "$tree/$name/"
  install -D -m 644 deploy/systemd/wsgw.service "$tree/$name/systemd/wsgw.service"
  tar --directory "$tree" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    --mode=go=rX,u+rw -cf - "$name" | gzip -n >"$out/$name.tar.gz"

  local fast=()
  if [ "$profile" != dist ]; then fast=(--fast); fi
  cargo deb --quiet --no-build --locked --profile "$profile" "${fast[@]}" --output "$out/"

  # One bill of materials for what cargo linked; it names this directory, which nobody wants to know.
  cargo cyclonedx --quiet --format json --spec-version 1.5 --override-filename wsgw-sbom.tmp
  sed "s|path+file://$here#|path+file:///src#|g" wsgw-sbom.tmp.json >"$out/$name.cdx.json"
  rm wsgw-sbom.tmp.json

  helm package --destination "$out" deploy/helm/wsgw >/dev/null 2>&1 || fail "helm package failed"
  mv "$out/wsgw-$version.tgz" "$out/wsgw-chart-$version.tgz"

  (cd "$out" && sha256sum -- *.tar.gz *.deb *.cdx.json *.tgz >SHA256SUMS)
  if [ -n "${WSGW_SIGN_KEY:-}" ]; then
    minisign -S -s "$WSGW_SIGN_KEY" -m "$out/SHA256SUMS" -t "wsgw $version" </dev/null >/dev/null
  else
    echo "scripts/release.sh: WSGW_SIGN_KEY names no key, so nothing is signed" >&2
  fi
  ls "$out"
}

verify() {
  minisign -V -q -p "$2" -m "$1/SHA256SUMS" || fail "SHA256SUMS is not signed by the key"
  (cd "$1" && sha256sum --check --strict --quiet SHA256SUMS) || fail "a file is not what was signed"
  local file
  for file in "$1"/*; do
    case "${file##*/}" in SHA256SUMS|SHA256SUMS.minisig) continue ;; esac
    grep -qF "  ${file##*/}" "$1/SHA256SUMS" || fail "${file##*/} is not among what was signed"
  done
  echo "wsgw: signature and checksums are good"
}

case "${1:-} $#" in
  "build 1"|"build 2") build "${2:-}" ;;
  "verify 3") verify "$2" "$3" ;;
  "version 1") version ;;
  *) sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
