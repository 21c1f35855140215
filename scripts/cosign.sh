#!/bin/sh
# Builds an unmodified cosign of the version that our bundles are tested with
# into bin/cosign of this repository. Does nothing when it is there already.
# Needs Go and some four minutes of one core; nothing else of the repository does.
set -eu

version=v3.1.3
bin=$(cd "$(dirname "$0")/.." && pwd)/bin

if go version -m "$bin/cosign" 2>/dev/null | grep -qF "$(printf 'mod\tgithub.com/sigstore/cosign/v3\t%s' "$version")"; then
	echo "cosign $version is in bin/ already"
	exit 0
fi

start=$(date +%s)
mkdir -p "$bin"
CGO_ENABLED=0 GOBIN=$bin go install "github.com/sigstore/cosign/v3/cmd/cosign@$version"
echo "built cosign $version in $(($(date +%s) - start)) s"
