package tlog

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sallyport-ci/sallyport"
)

const (
	envCrash = "SALLYPORT_TEST_TLOG_CRASH" // what the child process does until it is killed
	envDir   = "SALLYPORT_TEST_TLOG_DIR"
)

func TestMain(m *testing.M) {
	RouteLibraryLog(slog.New(slog.DiscardHandler))
	dir := os.Getenv(envDir)
	var err error
	switch os.Getenv(envCrash) {
	case "":
		os.Exit(m.Run())
	case "signatures":
		err = appendForever(dir)
	case "sequencer":
		err = sequenceForever(dir)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// crashKey is the same key in parent and child.
func crashKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

// appendForever adds entries from several goroutines and prints each one that
// was acknowledged.
func appendForever(dir string) error {
	s, err := OpenSignatures(context.Background(), signaturesConfig(dir, crashKey()))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	fail := make(chan error)
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				entry := fmt.Sprintf("entry %d of %d", i, w)
				index, _, _, err := s.Append(context.Background(), []byte(entry))
				if err != nil {
					fail <- err
					return
				}
				mu.Lock()
				fmt.Printf("%d %s\n", index, entry)
				mu.Unlock()
			}
		}()
	}
	return <-fail
}

// printing is a trail that prints the marks it was given.
type printing struct{ *memory }

func (p printing) SetLogged(ctx context.Context, from, to, index int64) error {
	fmt.Println(from, to, index)
	return p.memory.SetLogged(ctx, from, to, index)
}

func sequenceForever(dir string) error {
	m := printing{newMemory()}
	s, err := OpenSequencer(context.Background(), auditConfig(dir, crashKey()), m)
	if err != nil {
		return err
	}
	go func() {
		for i := 0; ; i++ {
			m.append(1 + i%5)
			s.Wake()
			time.Sleep(time.Millisecond) // the child's pace, not a test's synchronisation
		}
	}()
	return s.Run(context.Background())
}

// killAfter runs the child, kills it after it printed n lines, and returns all
// it had printed.
func killAfter(t *testing.T, what, dir string, n int) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), envCrash+"="+what, envDir+"="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
		if len(lines) == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(lines) > 0 && strings.Count(lines[len(lines)-1], " ") < 2 {
		lines = lines[:len(lines)-1] // cut by the kill
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || len(lines) < n {
		t.Fatalf("child ended with %v after %d lines: %s", err, len(lines), stderr.String())
	}
	return lines
}

func TestSignaturesSurviveKill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "sig")
	acknowledged := map[int64]string{}
	for round := range 4 {
		for _, line := range killAfter(t, "signatures", dir, 50+round*37) {
			var index int64
			text, entry, _ := strings.Cut(line, " ")
			if _, err := fmt.Sscan(text, &index); err != nil {
				t.Fatal(err)
			}
			if was, ok := acknowledged[index]; ok {
				t.Fatalf("index %d was given to %q and to %q", index, was, entry)
			}
			acknowledged[index] = entry
		}
	}
	s := openSignatures(t, dir, crashKey())
	index, _, checkpoint, err := s.Append(t.Context(), []byte("after"))
	if err != nil {
		t.Fatal(err)
	}
	head, err := openCheckpoint(checkpoint, s.verifier)
	if err != nil || head.Size != uint64(index)+1 {
		t.Fatalf("head %+v, %v", head, err)
	}
	d, err := openLogDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	leaves := leafReader{dir: d}
	for i := range head.Size {
		entry, hash, inTile, err := leaves.read(i, head.Size)
		if err != nil || !inTile || string(hash) != string(rfc6962.DefaultHasher.HashLeaf(entry)) {
			t.Fatalf("entry %d: %v", i, err)
		}
		if want, ok := acknowledged[int64(i)]; ok && want != string(entry) {
			t.Fatalf("entry %d is %q, %q was acknowledged", i, entry, want)
		}
		delete(acknowledged, int64(i))
	}
	if len(acknowledged) != 0 {
		t.Errorf("%d acknowledged entries are not in the log", len(acknowledged))
	}
}

// TestSequencerSurvivesKill kills the sequencer at random points. The database
// it comes back with holds all records, and the marks that were set, or only
// some of them.
func TestSequencerSurvivesKill(t *testing.T) {
	t.Parallel()
	for round := range 3 {
		dir := filepath.Join(t.TempDir(), "audit")
		lines := killAfter(t, "sequencer", dir, 2+3*round)
		for _, kept := range []int{len(lines), len(lines) / 2, 0} {
			t.Run(fmt.Sprintf("round %d, %d of %d marks", round, kept, len(lines)), func(t *testing.T) {
				t.Parallel()
				m := newMemory()
				m.append(4000) // more than the child made
				for _, line := range lines[:kept] {
					var from, to, index int64
					if _, err := fmt.Sscan(line, &from, &to, &index); err != nil {
						t.Fatal(err)
					}
					if err := m.SetLogged(t.Context(), from, to, index); err != nil {
						t.Fatal(err)
					}
				}
				copied := filepath.Join(t.TempDir(), "audit")
				if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				if r := report(t, m, copied, crashKey()); !r.OK {
					t.Errorf("before recovery: %+v", r)
				}
				_, stop := session(t, auditConfig(copied, crashKey()), m)
				m.awaitLogged(t)
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				if r := report(t, m, copied, crashKey()); !r.OK || r.Logged != 4000 {
					t.Errorf("after recovery: %+v", r)
				}
			})
		}
	}
}

// writing is a trail to which somebody writes between any two looks at it.
type writing struct{ *memory }

func (w writing) Unlogged(ctx context.Context, limit int) ([]sallyport.AuditRecord, error) {
	defer w.append(1)
	return w.memory.Unlogged(ctx, limit)
}

func (w writing) Count(ctx context.Context) (records, logged int64, err error) {
	defer w.append(1)
	return w.memory.Count(ctx)
}

// TestSequencerStartsWhileRecordsAreWritten starts beside a writer whose first
// record comes between the questions that recovery asks.
func TestSequencerStartsWhileRecordsAreWritten(t *testing.T) {
	t.Parallel()
	s, err := OpenSequencer(t.Context(), auditConfig(filepath.Join(t.TempDir(), "audit"), newKey(t)), writing{newMemory()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.recover(t.Context()); err != nil {
		t.Errorf("recover = %v, want nil: no record is marked as logged", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestSequencerHalts comes back with a database that the log contradicts.
func TestSequencerHalts(t *testing.T) {
	t.Parallel()
	original, dir, key := trailed(t, 900)
	for name, tamper := range map[string]func(*memory){
		"older database": func(m *memory) { m.records = m.records[:500] },
		"older database, written to": func(m *memory) {
			m.records = m.records[:500]
			m.append(600)
			for i := 500; i < len(m.records); i++ {
				m.records[i].Actor = "person:bob"
			}
		},
		"last record edited":  func(m *memory) { m.records[899].Actor = "person:bob" },
		"last record deleted": func(m *memory) { m.records = m.records[:899] },
		"unlogged record deleted": func(m *memory) {
			m.append(2)
			m.records = append(m.records[:900], m.records[901:]...)
		},
		"marked beyond the log": func(m *memory) {
			m.append(1)
			m.records[900].LogIndex = 77
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			copied := filepath.Join(t.TempDir(), "audit")
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			m := original.clone()
			tamper(m)
			s, err := OpenSequencer(t.Context(), auditConfig(copied, key), m)
			if err != nil {
				t.Fatal(err)
			}
			first := s.Run(t.Context())
			if sallyport.ErrorCode(first) != sallyport.CodeConflict || s.Status().Halted == "" {
				t.Errorf("Run = %v, status %+v; want it halted", first, s.Status())
			}
			if again := s.Run(t.Context()); again != first {
				t.Errorf("a second Run went on: %v", again)
			}
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSequencerTriesAgain has a database that fails for a while.
func TestSequencerTriesAgain(t *testing.T) {
	t.Parallel()
	m, dir, key := newMemory(), filepath.Join(t.TempDir(), "audit"), newKey(t)
	m.append(10)
	m.setFail(errors.New("no connection"))
	failed := make(chan struct{})
	cfg := auditConfig(dir, key)
	cfg.Log = slog.New(onFirst{slog.DiscardHandler, failed, new(sync.Once)})
	s, stop := session(t, cfg, m)
	<-failed
	m.setFail(nil)
	m.awaitLogged(t)
	if h := s.Status(); h.Halted != "" || h.Records != 10 {
		t.Errorf("status %+v", h)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// onFirst closes a channel at the first log line.
type onFirst struct {
	slog.Handler
	c    chan struct{}
	once *sync.Once
}

func (h onFirst) Enabled(context.Context, slog.Level) bool { return true }
func (h onFirst) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h onFirst) Handle(context.Context, slog.Record) error {
	h.once.Do(func() { close(h.c) })
	return nil
}
