// Package bench measures Sallyport from outside: what a user waits for and what
// an installation can carry. Every figure stands beside one of a peer or a floor
// that was measured in the same run, turn by turn, so that a busy machine
// disturbs both alike; docs/BENCHMARKS.md tells how to read them.
//
// It holds benchmarks alone and judges nothing: no test fails for being slow.
// scripts/bench.sh prints all of them. Benchmarks of one package's inside live
// in that package.
package bench
