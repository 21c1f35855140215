package cli

import (
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// TestFindRunNames refuses what cannot name a run before anyone is asked.
func TestFindRunNames(t *testing.T) {
	t.Parallel()
	id := string(sallyport.NewID[sallyport.RunID](time.Now()))
	if got, err := findRun(t.Context(), sallyport.Services{}, "", id); err != nil || string(got) != id {
		t.Errorf("findRun(%s) = %s, %v", id, got, err)
	}
	for _, name := range []string{"", "abc", "#", "1x", id + "0"} {
		if _, err := findRun(t.Context(), sallyport.Services{}, "", name); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("findRun(%q): %v, want it refused", name, err)
		}
	}
}
