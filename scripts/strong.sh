#!/bin/sh
# Builds the pinned gVisor (runsc), which isolates at level strong, into bin/, unless it is
# there already. Needs Go and some four minutes of one core. Safe to run at any time.
set -eu

version=v0.0.0-20260905035102-160fafc42237
cd "$(dirname "$0")/.."
bin=$PWD/bin

if go version -m "$bin/runsc" 2>/dev/null | grep -qF "$(printf 'mod\tgvisor.dev/gvisor\t%s' "$version")"; then
	exit 0
fi
echo "building runsc $version (once)" >&2
mkdir -p "$bin"
CGO_ENABLED=0 GOBIN=$bin GOFLAGS=-trimpath go install -ldflags '-s -w' "gvisor.dev/gvisor/runsc@$version"
go version -m "$bin/runsc" | grep -qF "$version" || { echo "strong.sh: the runsc that was built is not version $version" >&2; exit 1; }
