package engine

import (
	"fmt"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// Jobs of branches may have what the protected branch has locked, and not what they lock for themselves.
func TestLockedByTheProtectedBranch(t *testing.T) {
	t.Parallel()
	h := newHouse(t, registries)
	flow := head + "  a:\n" + step("a")
	locked := func(branch string, f files) string {
		t.Helper()
		h.push(branch, f)
		l := h.lease()
		h.finish(l, sallyport.Success, nil)
		return fmt.Sprint(l.Egress.Packages.Locked)
	}
	sum := "example.com/mod v1.0.0 h1:AAAA=\n"
	if got := locked("main", files{workflowFile: flow}); got != "[]" {
		t.Errorf("without lock files: got %s", got)
	}
	if got := locked("side", files{workflowFile: flow, "go.sum": sum}); got != "[]" {
		t.Errorf("a branch that locks for itself: got %s", got)
	}
	want := "[{pkg:golang/example.com/mod@v1.0.0 [h1:AAAA=]}]"
	if got := locked("main", files{workflowFile: flow, "go.sum": sum, "package-lock.json": "{", "web/go.sum": "example.com/web v1.0.0 h1:AAAA=\n"}); got != want {
		t.Errorf("merged: got %s, want %s", got, want)
	}
	if got := locked("side", files{workflowFile: flow, "go.sum": "example.com/evil v1.0.0 h1:AAAA=\n"}); got != want {
		t.Errorf("a branch later: got %s, want %s", got, want)
	}
}
