package sandbox

import (
	"context"
	"fmt"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

// TestFilterIsTheRuntimes compares what rooms forbid whose filter comes from the runtime and
// from their init.
func TestFilterIsTheRuntimes(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := open(t, Config{})
	var first []byte
	for i, from := range []string{"the runtime", "init"} {
		r, err := s.Prepare(t.Context(), sallyport.RoomSpec{ID: fmt.Sprintf("filter-%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Destroy(context.Background())
		var out strings.Builder
		if _, err := r.Exec(t.Context(), sallyport.ExecSpec{Argv: []string{"/bin/grep", "Seccomp", "/proc/self/status"}, Stdout: &out}); err != nil {
			t.Fatal(err)
		}
		if out.String() != "Seccomp:\t2\nSeccomp_filters:\t1\n" {
			t.Errorf("a process of a room with the filter of %s: %q", from, out.String())
		}
		pid, err := roomInitPID(r.(*Room).keeper.process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		var again filters
		if err := again.learn(pid); err != nil {
			t.Skipf("this host does not let us read filters: %v", err)
		}
		if i == 0 {
			first = again.get()
		} else if string(first) != string(again.get()) {
			t.Errorf("the filter of a room's init is not the runtime's: %d and %d bytes", len(again.get()), len(first))
		}
		if s.filter.get() == nil {
			t.Error("the filter was not kept")
		}
	}
}
