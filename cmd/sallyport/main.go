// Command sallyport is the whole of Sallyport in one binary: the control plane,
// the processes of the yard, and the command line that asks them.
package main

import (
	"os"

	"github.com/sallyport-ci/sallyport/internal/cli"
	"github.com/sallyport-ci/sallyport/internal/startup"
)

func main() {
	startup.Over()
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
