#!/usr/bin/env bash
# Installs what a fresh Debian or Ubuntu machine lacks to build, run and test
# Sallyport: Debian packages through apt, nothing else. Does nothing where all of it is there.
set -euo pipefail

need=()
command -v git >/dev/null || need+=(git)
command -v gcc >/dev/null || need+=(gcc libc6-dev)
command -v make >/dev/null || need+=(make)
command -v newuidmap >/dev/null || need+=(uidmap)
command -v ip >/dev/null || need+=(iproute2)
[ -e /usr/include/seccomp.h ] || need+=(libseccomp-dev pkg-config)
if [ "${SALLYPORT_SETUP:-all}" = all ]; then # for the tests alone
  [ -x /usr/bin/python3 ] || need+=(python3)
  ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need+=(postgresql)
  command -v node >/dev/null || need+=(nodejs)
  command -v npm >/dev/null || need+=(npm)
  command -v chromium >/dev/null || command -v chromium-browser >/dev/null || need+=(chromium fonts-dejavu-core)
fi
command -v go >/dev/null || { echo "setup: Go 1.26 is needed: install it from your usual source and put it on PATH" >&2; exit 1; }
[ ${#need[@]} -eq 0 ] && exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "setup: these packages are missing, install them as root: apt-get install ${need[*]}" >&2; exit 1; }
  sudo=sudo
fi
command -v apt-get >/dev/null || { echo "setup: these are missing and this is no Debian or Ubuntu: ${need[*]}" >&2; exit 1; }
echo "setup: installing ${need[*]}" >&2
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
