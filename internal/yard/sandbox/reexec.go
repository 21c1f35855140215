package sandbox

import (
	"encoding/json"
	"fmt"
	"os"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Markers in argv[1] by which our own binary knows that it was started by this
// package. They cannot be mistaken for a verb of the command line. Pid 1 of a room has its
// own, in package pidone.
const (
	markKeeper = "sallyport:room-keeper"
	markSettle = "sallyport:room-settle"
)

// exitInvalid is the exit code of a helper process that found the request wrong,
// not the host.
const exitInvalid = 2

// A process that was started by this package is done with here and not in main: the packages that
// only the command line needs are initialised after this one, as package pidone explains.
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
	case markKeeper:
		err = roomKeeper(args[2:])
	case markSettle:
		err = roomSettle(args[2:])
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
