package pidone

import (
	"fmt"
	"io"
	"os"
)

// Markers in argv[1] by which our own binary knows what it was started as. They cannot
// be mistaken for a verb of the command line.
const (
	// Mark is pid 1 of a room; TellStarts and TakeFilter may follow.
	Mark = "sallyport:room-init"
	// MarkNamespace is a process that only lends its user namespace, until its stdin ends.
	MarkNamespace = "sallyport:user-namespace"
)

// TellStarts makes pid 1 hand out the listener to program starts with its hello.
const TellStarts = "starts"

// TakeFilter makes pid 1 wait for the filter of system calls that the runtime was not
// asked for, and install it before it says hello.
const TakeFilter = "filter"

func init() {
	if len(os.Args) < 2 {
		return
	}
	var err error
	switch os.Args[1] {
	case Mark:
		err = roomInit(os.Args[2:])
	case MarkNamespace:
		_, err = io.Copy(io.Discard, os.Stdin)
	default:
		return // not ours: on to main
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
