// Package startup keeps the garbage collector out of the way while the packages of the
// binary are initialised. That makes eight megabytes, and the collector, which begins at four, would look through
// what is there three times before main; so it does once.
//
// Only cmd/sallyport imports it. It is initialised early for the same reason as package pidone, which
// explains the order: it imports little.
package startup

import "runtime/debug"

// percent is GOGC as the environment has it.
var percent = debug.SetGCPercent(-1)

// Over says that main has begun: from here on garbage is collected as usual.
func Over() { debug.SetGCPercent(percent) }
