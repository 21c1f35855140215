#!/bin/sh
# Prints every figure of speed and size beside its peer or floor of the same
# run. Takes about five minutes on an idle machine, ten with COLD=1 (the build with an
# empty cache) and DEMO=1 (the whole demo). docs/BENCHMARKS.md tells how to read them.
set -eu
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 GOFLAGS=-mod=readonly
work=$(mktemp -d "${TMPDIR:-/tmp}/sallyport-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT

# section TITLE AIM: what follows is about.
section() { printf '\n%s\n  aim: %s\n' "$1" "$2"; }

# measure PACKAGE BENCHMARKS TIMES: one line a benchmark, its figures in the order of their names.
measure() {
	(cd "$1" && go test -run '^$' -bench "$2" -benchtime "$3" -timeout 30m . 2>&1) | awk '
		/^Benchmark/ {
			sub(/^Benchmark/, "", $1); sub(/-[0-9]+$/, "", $1)
			printf "  %-34s", $1
			for (i = 3; i < NF; i += 2) if (!($(i+1) == "ns/op" && $i == 0) && $(i+1) != "B/op" && $(i+1) != "allocs/op") printf "  %s %s", $i, $(i+1)
			print ""
		}
		/^ +[a-z_]+_test.go:[0-9]+: / || /^--- FAIL|^FAIL|panic:/ { print "    " $0 }'
}

printf 'machine: %s processors, %s\n' "$(nproc)" "$(uname -srm)"
printf 'load before: %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
for peer in act bwrap; do command -v $peer >/dev/null || echo "$peer is not on PATH: no comparison with it"; done

section 'A job of one step, from start to end of "sallyport run" (x-bare: times the bare command)' 'as little as can be'
measure bench 'Job|Start' 10x
section 'One step more (51 steps less 1, less as many starts of bash)' 'added-ms/step <= 2'
measure bench 'Step' 5x
section '20 jobs of one step at once' 'as little as can be'
measure bench 'Parallel' 3x
section 'A room, from its start to its end' 'prepare-p50-ms <= 30 cold, <= 10 from the pool'
measure internal/yard/sandbox 'Room' 20x
section 'Masking 200 secrets, by processor time, beside copying' 'MB/s >= 500'
measure bench 'Redact' 3x
section 'A workflow of 1,400 lines, and expressions, beside act and actionlint as libraries' 'ms-ours <= 3, x-median >= 10'
measure bench/act 'Parse|Expr' 1x
measure internal/yard/runner 'Output' 1s
section 'Finished bundles' 'bundle-p50-ms <= 150 with one signer; bundles/s >= 700 with 100'
measure bench 'Bundle/signers=1$' 50x
measure bench 'Bundle/signers=10' 2000x
section 'Audit records, durable and in the log' 'records/s >= 5000'
measure bench 'Audit' 20000x
section 'Pages over 1,000 runs, time of the server' 'page-p50-ms < 50'
measure bench 'Pages' 100x
section 'Jobs leased and finished through the engine on SQLite, beside bare transactions' 'jobs/s >= 2000'
measure bench 'Dispatch' 3000x
section 'A job to one of 1,000 runners that wait' 'pickup-p50-ms <= 2'
measure bench 'Pickup' 1000x
section 'A push to a warm installation' 'first-line-p50-ms as little as can be'
measure bench 'Push' 20x
section 'Memory of an idle installation' 'rss-MiB < 150'
measure bench 'Idle' 1x
section 'Size' 'binary-MB < 100'
measure bench 'Size' 1x

if [ -n "${DEMO-}" ]; then
	section 'The whole demo, once built' '< 60 s'
	began=$(date +%s.%N)
	bin/sallyport demo --once --data "$work/demo" >/dev/null 2>"$work/demo.log" || tail -20 "$work/demo.log"
	echo "$began $(date +%s.%N)" | awk '{ printf "  demo  %.1f s\n", $2 - $1 }'
fi
if [ -n "${COLD-}" ]; then
	section 'The first build, modules fetched, empty build cache' 'what a newcomer waits for'
	SALLYPORT_BENCH_COLD=1 measure bench 'ColdBuild' 1x
fi
printf '\nload after: %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
