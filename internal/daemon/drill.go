package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/escape"
	"github.com/sallyport-ci/sallyport/internal/yard/sandbox"
)

// Drill is what came of an attack on rooms of this host.
type Drill struct {
	Isolation sallyport.Isolation `json:"isolation"`
	Attempts  []escape.Result     `json:"attempts"`
}

// DrillSandbox attacks rooms of a level of this host from within.
func DrillSandbox(ctx context.Context, level string, log *slog.Logger) (Drill, error) {
	dir, err := os.MkdirTemp("", "sallyport-drill-")
	if err != nil {
		return Drill{}, err
	}
	defer os.RemoveAll(dir)
	box, err := newSandbox(filepath.Join(dir, "rooms"), level, sandbox.Warm{}, log)
	if err != nil {
		return Drill{}, err
	}
	defer box.Close()
	got := Drill{}
	if got.Isolation, err = box.Check(ctx); err != nil {
		return Drill{}, err
	}
	got.Attempts, err = escape.Run(ctx, escape.Config{Sandbox: box, Dir: dir})
	return got, err
}
