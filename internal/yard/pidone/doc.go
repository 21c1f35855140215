// Package pidone is pid 1 of a room: our own binary, started by the OCI runtime with Mark as its first
// argument. It holds nothing but one end of the control socket, forks steps on request, reaps, and ends
// when the host's end of the socket closes. The package also has the frames in which the host and pid 1 speak
// (wire.go), for package sandbox, which alone imports it.
//
// # Why it is a package of its own, and imports so little
//
// One binary does everything, and the Go runtime initialises every package of it before main. For pid 1 that
// would be five milliseconds of processor time and a few mebibytes for each room: regular expressions, protobuf
// descriptors and tables of which it uses none. So pid 1 lives in this package's init and never reaches main.
//
// Packages are initialised in the order of their import paths, as soon as those that they import are (The Go
// Programming Language Specification, "Program initialization"). What delays this one is therefore what it
// imports and what sorts before that: the packages os, os/signal and encoding/json come early, while net and
// golang.org/x/sys/unix come after most of the binary. Hence sockets here are files with recvmsg and sendmsg,
// and the few numbers that package syscall lacks stand in seccomp.go; a test compares them with x/sys.
// TestLayers refuses the imports that would cost most. Should the order ever change, pid 1 is slower and still right.
package pidone
