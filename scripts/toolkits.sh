#!/usr/bin/env bash
# Installs the toolkits of actions, unmodified and as their lock file names them by
# digest, for the tests that drive our services with them; prints where they are. They lie in
# the user's cache and not in the repository. Does nothing where they are there already, and
# fails no build where npm or its registry is missing: the tests then skip and say so.
set -euo pipefail
cd "$(dirname "$0")/../internal/yard/toolkit/testdata/npm"
lock=$(sha256sum package-lock.json | cut -c1-16)
dir=${XDG_CACHE_HOME:-$HOME/.cache}/sallyport/toolkits/$lock
if [ ! -d "$dir" ]; then
  command -v npm >/dev/null || { echo 'toolkits: there is no npm; tests with the toolkits of actions will skip' >&2; exit 0; }
  mkdir -p "$(dirname "$dir")"
  new=$(mktemp -d "$dir.XXXXXX")
  trap 'rm -rf "$new"' EXIT
  cp package.json package-lock.json "$new"
  echo 'installing the toolkits of actions (once)' >&2
  if ! (cd "$new" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2); then
    echo 'toolkits: npm could not install them; tests with the toolkits of actions will skip' >&2
    exit 0
  fi
  chmod 755 "$new"
  mv -T "$new" "$dir" 2>/dev/null || [ -d "$dir" ] # another run may have been faster
fi
echo "$dir"
