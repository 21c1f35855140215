package sandbox

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Markers in argv[1] by which our own binary knows that it was started by this
// package. They cannot be mistaken for a verb of the command line.
const (
	markInit   = "sallyport:room-init"
	markKeeper = "sallyport:room-keeper"
	markSettle = "sallyport:room-settle"
	// markNamespace is a process that only lends its user namespace.
	markNamespace = "sallyport:user-namespace"
)

// tellStarts makes a room's init hand out the listener to program starts.
const tellStarts = "starts"

// takeFilter makes a room's init wait for the filter of system calls that the runtime
// was not asked for.
const takeFilter = "filter"

// exitInvalid is the exit code of a helper process that found the request wrong,
// not the host.
const exitInvalid = 2

// A process that was started by this package is done with here and not in main:
// the packages initialised between the two, which only the command line needs,
// would cost every room nine milliseconds of its start and half of its init's
// memory. Packages are initialised in the order of their paths, those imported
// before those that import (Program initialization, The Go Programming Language
// Specification); where that ever changes, this is slower and still right.
func init() {
	if handled, code := reexec(os.Args); handled {
		os.Exit(code)
	}
}

// reexec runs the part of a room that args (os.Args) asks for, and reports
// whether it did; the process must then exit with the code.
func reexec(args []string) (handled bool, exit int) {
	if len(args) < 2 {
		return false, 0
	}
	var err error
	switch args[1] {
	case markInit:
		err = roomInit(args[2:])
	case markKeeper:
		err = roomKeeper(args[2:])
	case markSettle:
		err = roomSettle(args[2:])
	case markNamespace:
		_, err = io.Copy(io.Discard, os.Stdin)
	default:
		return false, 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if sallyport.ErrorCode(err) == sallyport.CodeInvalid {
			return true, exitInvalid
		}
		return true, 1
	}
	return true, 0
}

// readJob reads the JSON handed to a helper process on an inherited file.
func readJob(fd uintptr, v any) error {
	f := os.NewFile(fd, "job")
	defer f.Close()
	return json.NewDecoder(f).Decode(v)
}
