#!/usr/bin/env bash
# Runs govulncheck. Fails when it finds something; where its database cannot be
# reached it says so, loudly, because then nothing was checked.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(go run golang.org/x/vuln/cmd/govulncheck@v1.8.0 ./... 2>&1)
code=$?
printf '%s\n' "$out"
if [ $code -ne 0 ] && grep -qE 'fetching vulnerabilities: .*(no such host|connection refused|timeout)' <<<"$out"; then
  echo "vuln: the vulnerability database cannot be reached from here: NOT CHECKED" >&2
  exit 0
fi
exit $code
