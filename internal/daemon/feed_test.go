package daemon

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/engine"
	"github.com/sallyport-ci/sallyport/internal/sqlstore"
	"github.com/sallyport-ci/sallyport/internal/tlog"
	"github.com/sallyport-ci/sallyport/internal/witness"
)

// TestFeed has a log witnessed, loses the witness, and puts an older log back.
func TestFeed(t *testing.T) {
	t.Parallel()
	const origin = "audit.example"
	dir := t.TempDir()
	seed := make([]byte, ed25519.SeedSize)
	key := ed25519.NewKeyFromSeed(seed)
	vkey, err := tlog.LogKey(origin, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	logs, err := witness.ParseLogs([]byte("log " + vkey))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := witness.MakeKey("w.example")
	if err != nil {
		t.Fatal(err)
	}
	w, err := witness.New(witness.Config{Dir: filepath.Join(dir, "seen"), Key: signer, Policy: logs, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	down := false
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if down {
			http.Error(rw, "gone", http.StatusServiceUnavailable)
			return
		}
		w.Handler().ServeHTTP(rw, r)
	}))
	defer server.Close()
	wkey, err := witness.VerifierKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := witness.ParsePolicy(fmt.Appendf(nil, "log %s\nwitness w %s %s\nquorum w\n", vkey, wkey, server.URL))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1800000000, 0)
	f := &feed{dir: filepath.Join(dir, "log"), file: witnessedFile(dir), policy: policy, client: server.Client(),
		log: slog.New(slog.DiscardHandler), now: func() time.Time { return now }, known: map[string]uint64{}}

	store, err := sqlstore.Open(t.Context(), sqlstore.Config{DSN: "sqlite://" + filepath.Join(dir, "db"), Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	grow(t, store, f.dir, origin, key, 3)
	if err := os.CopyFS(filepath.Join(dir, "old"), os.DirFS(f.dir)); err != nil {
		t.Fatal(err)
	}
	if err := f.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(f.file)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := policy.Check(raw); err != nil || !got.Enough || got.Size == 0 {
		t.Fatalf("kept: %+v, %v", got, err)
	}
	if at, alarm := f.status(); at.IsZero() || alarm != "" {
		t.Errorf("status %v %q", at, alarm)
	}
	down = true
	grow(t, store, f.dir, origin, key, 2)
	if err := f.step(t.Context()); err == nil {
		t.Error("a witness that is down cosigned")
	}
	if _, alarm := f.status(); alarm != "" {
		t.Errorf("alarmed at once: %q", alarm)
	}
	now = now.Add(unwitnessedAlarm)
	if _, alarm := f.status(); !strings.Contains(alarm, "503") {
		t.Errorf("alarm %q", alarm)
	}
	down = false
	if err := f.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, alarm := f.status(); alarm != "" {
		t.Errorf("alarm %q stays", alarm)
	}
	f.dir = filepath.Join(dir, "old")
	if err := f.step(t.Context()); err == nil {
		t.Error("an older log was cosigned")
	}
	if _, alarm := f.status(); !strings.Contains(alarm, "older one was restored") {
		t.Errorf("alarm %q", alarm)
	}
}

// grow adds n records to the trail and brings them into the log.
func grow(t *testing.T, store sallyport.Store, dir, origin string, key ed25519.PrivateKey, n int) {
	t.Helper()
	for range n {
		if err := store.Update(t.Context(), func(tx sallyport.Tx) error {
			_, err := tx.Audit().Append(sallyport.AuditRecord{Actor: "system:test", Action: "test.done", Object: "test/1"})
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	ledger := engine.NewLedger(store)
	s, err := tlog.OpenSequencer(t.Context(), tlog.Config{Dir: dir, Origin: origin, Signer: key, Log: slog.New(slog.DiscardHandler)}, ledger)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	changed, stop := store.Watch("audit")
	defer stop()
	for {
		records, logged, err := ledger.Count(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if records == logged {
			break
		}
		select {
		case <-changed:
		case <-time.After(50 * time.Millisecond):
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}
