#!/bin/sh
# Builds the pinned OCI runtime (runc) into bin/, unless it is there already.
# Needs Go, a C compiler and libseccomp's headers. Safe to run at any time.
set -eu

version=1.5.2
cd "$(dirname "$0")/.."
bin=$PWD/bin

if [ -x "$bin/runc" ]; then
	out=$("$bin/runc" --version 2>/dev/null || true)
	case $out in
	"runc version $version"*libseccomp:*) exit 0 ;;
	esac
fi

need() {
	echo "runtime.sh: $1" >&2
	echo "runtime.sh: on Debian and Ubuntu: apt-get install $2" >&2
	exit 1
}
command -v go >/dev/null || { echo "runtime.sh: Go 1.26 is needed, see https://go.dev/doc/install" >&2; exit 1; }
command -v cc >/dev/null || command -v gcc >/dev/null || need "a C compiler is needed to build runc" gcc
[ -e /usr/include/seccomp.h ] || pkg-config --exists libseccomp 2>/dev/null || need "libseccomp's headers are needed to build runc" libseccomp-dev

echo "building runc $version (once)" >&2
mkdir -p "$bin"
# GOFLAGS of the caller must not change what is built. Stripped: every runner copies it into sealed
# memory when it starts.
CGO_ENABLED=1 GOBIN=$bin GOFLAGS=-trimpath go install -ldflags="-s -w" -tags seccomp "github.com/opencontainers/runc@v$version"

case $("$bin/runc" --version) in
"runc version $version"*libseccomp:*) ;;
*)
	echo "runtime.sh: the runc that was built is not version $version with seccomp" >&2
	exit 1
	;;
esac
