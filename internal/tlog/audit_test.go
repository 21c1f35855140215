package tlog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const auditOrigin = "audit.sallyport.localhost"

// memory is an audit trail in memory. It is what a database does, without the
// database.
type memory struct {
	mu      sync.Mutex
	records []sallyport.AuditRecord
	fail    error         // of every call, when set
	marked  chan struct{} // gets a value when marks were set
}

func newMemory() *memory { return &memory{marked: make(chan struct{}, 1)} }

var _ Source = (*memory)(nil)

func (m *memory) append(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range n {
		seq := int64(len(m.records))
		salt := sha256.Sum256(fmt.Append(nil, "salt", seq)) // a process that was killed can make the same trail again
		m.records = append(m.records, sallyport.AuditRecord{
			Seq: seq, At: time.UnixMicro(1767323045000000 + seq), Actor: "person:ann", Action: "run.created", Object: fmt.Sprintf("run/%d", seq),
			Detail: json.RawMessage(`{"n":` + fmt.Sprint(seq) + `}`), Salt: salt[:], LogIndex: -1,
		})
	}
}

func (m *memory) Range(_ context.Context, from int64, limit int) ([]sallyport.AuditRecord, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []sallyport.AuditRecord
	for i, _ := slices.BinarySearchFunc(m.records, from, func(r sallyport.AuditRecord, seq int64) int { return int(r.Seq - seq) }); i < len(m.records) && len(out) < limit; i++ {
		out = append(out, m.records[i])
	}
	return out, m.fail
}

func (m *memory) Unlogged(_ context.Context, limit int) ([]sallyport.AuditRecord, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []sallyport.AuditRecord
	for _, r := range m.records {
		if r.LogIndex < 0 && len(out) < limit {
			out = append(out, r)
		}
	}
	return out, m.fail
}

func (m *memory) SetLogged(_ context.Context, from, to, index int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	for i := range m.records {
		if r := &m.records[i]; r.Seq >= from && r.Seq <= to {
			r.LogIndex = index
		}
	}
	select {
	case m.marked <- struct{}{}:
	default:
	}
	return nil
}

func (m *memory) Count(context.Context) (records, logged int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.records {
		if r.LogIndex >= 0 {
			logged++
		}
	}
	return int64(len(m.records)), logged, m.fail
}

func (m *memory) setFail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

func (m *memory) clone() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := newMemory()
	c.records = slices.Clone(m.records)
	for i := range c.records {
		c.records[i].Salt = bytes.Clone(c.records[i].Salt)
	}
	return c
}

// awaitLogged returns when all records are marked.
func (m *memory) awaitLogged(t testing.TB) {
	t.Helper()
	for {
		if n, logged, _ := m.Count(t.Context()); n == logged {
			return
		}
		select {
		case <-m.marked:
		case <-time.After(time.Minute):
			t.Fatal("records were not logged")
		}
	}
}

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func auditConfig(dir string, key ed25519.PrivateKey) Config {
	return Config{Dir: dir, Origin: auditOrigin, Signer: key, Log: slog.New(slog.DiscardHandler)}
}

// session runs a sequencer until stop, which returns what Run returned.
func session(t testing.TB, cfg Config, source Source) (s *Sequencer, stop func() error) {
	t.Helper()
	s, err := OpenSequencer(t.Context(), cfg, source)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return s, sync.OnceValue(func() error {
		cancel()
		err := <-ended
		if closeErr := s.Close(context.Background()); closeErr != nil {
			t.Error(closeErr)
		}
		return err
	})
}

func report(t testing.TB, source Source, dir string, key ed25519.PrivateKey) sallyport.AuditReport {
	t.Helper()
	r, err := VerifyAudit(t.Context(), source, dir, auditOrigin, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// trailed returns a trail of n records (in several entries) and its log.
func trailed(t testing.TB, n int) (*memory, string, ed25519.PrivateKey) {
	t.Helper()
	m, dir, key := newMemory(), filepath.Join(t.TempDir(), "audit"), newKey(t)
	s, stop := session(t, auditConfig(dir, key), m)
	for _, part := range []int{1, n / 3, n - n/3 - 1} {
		m.append(part)
		s.Wake()
		m.awaitLogged(t)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	return m, dir, key
}

func TestAuditVerifies(t *testing.T) {
	t.Parallel()
	m, dir, key := trailed(t, 1500)
	r := report(t, m, dir, key)
	if !r.OK || r.Records != 1500 || r.Logged != 1500 || r.Size < 4 {
		t.Errorf("report = %+v", r)
	}
	m.append(5) // not logged yet: no problem
	if r := report(t, m, dir, key); !r.OK || r.Records != 1505 || r.Logged != 1500 {
		t.Errorf("report = %+v", r)
	}
}

func TestAuditVerifiesWhileItGrows(t *testing.T) {
	t.Parallel()
	m, dir, key := newMemory(), filepath.Join(t.TempDir(), "audit"), newKey(t)
	s, stop := session(t, auditConfig(dir, key), m)
	for range 40 {
		m.append(50)
		s.Wake()
		if r := report(t, m, dir, key); !r.OK {
			t.Fatalf("report = %+v", r)
		}
	}
	m.awaitLogged(t)
	if h := s.Status(); h.Halted != "" {
		t.Errorf("status %+v", h)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestTampering alters the trail in every way and wants the record named.
func TestTampering(t *testing.T) {
	t.Parallel()
	original, dir, key := trailed(t, 1500)
	for name, c := range map[string]struct {
		tamper func(m *memory)
		seq    int64
		kind   string
	}{
		"edited actor":  {func(m *memory) { m.records[700].Actor = "person:bob" }, 700, "edited"},
		"edited detail": {func(m *memory) { m.records[3].Detail = json.RawMessage(`{}`) }, 3, "edited"},
		"edited time":   {func(m *memory) { m.records[1499].At = m.records[1499].At.Add(time.Second) }, 1499, "edited"},
		"edited salt":   {func(m *memory) { m.records[0].Salt[0] ^= 1 }, 0, "edited"},
		"edited mark":   {func(m *memory) { m.records[9].LogIndex += 1 }, 9, "edited"},
		"deleted":       {func(m *memory) { m.records = slices.Delete(m.records, 700, 701) }, 700, "deleted"},
		"deleted first": {func(m *memory) { m.records = m.records[1:] }, 0, "deleted"},
		"deleted and renumbered": {func(m *memory) {
			m.records = slices.Delete(m.records, 1490, 1491)
			for i := 1490; i < len(m.records); i++ {
				m.records[i].Seq--
			}
		}, 1490, "deleted"},
		"swapped": {func(m *memory) {
			a, b := &m.records[10], &m.records[1200]
			*a, *b = *b, *a
			a.Seq, b.Seq = 10, 1200
		}, 10, "reordered"},
		"truncated":   {func(m *memory) { m.records = m.records[:1400] }, 1400, "truncated"},
		"last cut":    {func(m *memory) { m.records = m.records[:1499] }, 1499, "truncated"},
		"all deleted": {func(m *memory) { m.records = nil }, 0, "rolled_back"},
		"older restored": {func(m *memory) { // a copy taken before the last marks were set
			m.records = m.records[:1400]
			for i := 1390; i < 1400; i++ {
				m.records[i].LogIndex = -1
			}
		}, 1400, "rolled_back"},
		"older restored and written to": {func(m *memory) {
			m.records = m.records[:1400]
			m.append(200)
			for i := 1400; i < len(m.records); i++ {
				m.records[i].Actor = "person:bob"
			}
		}, 1400, "rolled_back"},
		"unlogged deleted": {func(m *memory) {
			m.append(3)
			m.records = slices.Delete(m.records, 1501, 1502)
		}, 1501, "deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := original.clone()
			c.tamper(m)
			r := report(t, m, dir, key)
			if r.OK || len(r.Problems) == 0 || !slices.ContainsFunc(r.Problems, func(p sallyport.AuditProblem) bool { return p.Seq == c.seq && p.Kind == c.kind }) {
				t.Errorf("report = %+v\nwant a problem %q of record %d", r, c.kind, c.seq)
			}
		})
	}
}

// TestTamperedLog alters the files of the log.
func TestTamperedLog(t *testing.T) {
	t.Parallel()
	m, dir, key := trailed(t, 1500)
	files := func(t *testing.T, dir, sub string) []string {
		t.Helper()
		var out []string
		err := filepath.WalkDir(filepath.Join(dir, sub), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				out = append(out, path)
			}
			return err
		})
		if err != nil || len(out) == 0 {
			t.Fatal(err, out)
		}
		return out
	}
	change := func(t *testing.T, path string, f func([]byte) []byte) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tamper := range map[string]func(t *testing.T, m *memory, dir string){
		"edited entry": func(t *testing.T, m *memory, dir string) {
			m.records[100].Actor = "person:bob"
			was, is := Commitment(originalOf(m, 100)), Commitment(m.records[100])
			for _, f := range files(t, dir, "tile/entries") {
				change(t, f, func(b []byte) []byte {
					return bytes.ReplaceAll(b, fmt.Appendf(nil, "%x", was), fmt.Appendf(nil, "%x", is))
				})
			}
		},
		"edited entry only": func(t *testing.T, _ *memory, dir string) {
			for _, f := range files(t, dir, "tile/entries") {
				change(t, f, func(b []byte) []byte { return bytes.Replace(b, []byte(`sha256":["`), []byte(`sha256":["0`), 1) })
			}
		},
		"flipped length": func(t *testing.T, _ *memory, dir string) {
			for _, f := range files(t, dir, "tile/entries") {
				change(t, f, func(b []byte) []byte { b[0] ^= 0x40; return b })
			}
		},
		"no entries": func(t *testing.T, _ *memory, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "tile")); err != nil {
				t.Fatal(err)
			}
		},
		"no log": func(t *testing.T, _ *memory, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		},
		"no checkpoint": func(t *testing.T, _ *memory, dir string) {
			if err := os.Remove(filepath.Join(dir, "checkpoint")); err != nil {
				t.Fatal(err)
			}
		},
		"edited checkpoint": func(t *testing.T, _ *memory, dir string) {
			change(t, filepath.Join(dir, "checkpoint"), func(b []byte) []byte { return bytes.Replace(b, []byte("\n4\n"), []byte("\n3\n"), 1) })
		},
		"checkpoint of another key": func(t *testing.T, m *memory, dir string) {
			other := filepath.Join(t.TempDir(), "other")
			_, stop := session(t, auditConfig(other, newKey(t)), m.clone())
			if err := stop(); err == nil {
				t.Log("the other log is empty") // its records are marked as logged elsewhere
			}
			b, err := os.ReadFile(filepath.Join(other, "checkpoint"))
			if err != nil {
				t.Fatal(err)
			}
			change(t, filepath.Join(dir, "checkpoint"), func([]byte) []byte { return b })
		},
		"huge checkpoint": func(t *testing.T, _ *memory, dir string) {
			change(t, filepath.Join(dir, "checkpoint"), func(b []byte) []byte { return append(b, make([]byte, 1<<20)...) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			copied := filepath.Join(t.TempDir(), "audit")
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			trail := m.clone()
			tamper(t, trail, copied)
			r := report(t, trail, copied, key)
			if r.OK || r.Problems[0].Kind != "log" {
				t.Errorf("report = %+v, want a problem of the log", r)
			}
		})
	}
}

// originalOf undoes the one edit that TestTamperedLog makes.
func originalOf(m *memory, seq int64) sallyport.AuditRecord {
	r := m.records[seq]
	r.Actor = "person:ann"
	return r
}

// TestOldLogRestored sets the log back to an earlier state of itself, whose
// checkpoint is genuine.
func TestOldLogRestored(t *testing.T) {
	t.Parallel()
	m, dir, key := trailed(t, 30)
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s, stop := session(t, auditConfig(dir, key), m)
	m.append(10)
	s.Wake()
	m.awaitLogged(t)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r := report(t, m, old, key)
	if r.OK || r.Problems[0].Seq != 30 || r.Problems[0].Kind != "log" {
		t.Errorf("report = %+v, want record 30 not covered", r)
	}
	_, stop = session(t, auditConfig(old, key), m)
	if err := stopHalted(t, stop); !strings.Contains(err.Error(), "record 39") {
		t.Errorf("sequencing went on: %v", err)
	}
}

// TestHalt is what whoever compared the whole trail may ask for: Run, which
// compares its end alone, adds nothing any more.
func TestHalt(t *testing.T) {
	t.Parallel()
	m, dir, key := trailed(t, 30)
	s, err := OpenSequencer(t.Context(), auditConfig(dir, key), m)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.WithoutCancel(t.Context()))
	s.Halt(t.Context(), "record 7 differs")
	m.append(1)
	if err := s.Run(t.Context()); sallyport.ErrorCode(err) != sallyport.CodeConflict || !strings.Contains(err.Error(), "record 7") {
		t.Errorf("Run returned %v, want the reason", err)
	}
	if got := s.Status().Halted; got != "record 7 differs" {
		t.Errorf("status says %q", got)
	}
}

// stopHalted wants that Run ended by itself.
func stopHalted(t testing.TB, stop func() error) error {
	t.Helper()
	err := stop()
	if sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Fatalf("Run returned %v, want CodeConflict", err)
	}
	return err
}
