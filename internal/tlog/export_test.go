package tlog

import (
	"bufio"
	"bytes"
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

	"github.com/transparency-dev/tessera/api/layout"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/witness"
)

// witnesses are three that follow one log, and the policy that wants two of them.
type witnesses struct {
	peers  []witness.Peer
	policy *witness.Policy
	none   *witness.Policy // the same log, no cosignature wanted
}

func observe(t *testing.T, key ed25519.PrivateKey) witnesses {
	t.Helper()
	vkey, err := LogKey(auditOrigin, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	logs, err := witness.ParseLogs([]byte("log " + vkey))
	if err != nil {
		t.Fatal(err)
	}
	text := "log " + vkey + "\n"
	for _, name := range []string{"w1", "w2", "w3"} {
		signer, err := witness.MakeKey(name + ".example")
		if err != nil {
			t.Fatal(err)
		}
		w, err := witness.New(witness.Config{Dir: t.TempDir(), Key: signer, Policy: logs, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewServer(w.Handler())
		t.Cleanup(func() { s.Close(); w.Close() })
		v, err := witness.VerifierKey(signer)
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("witness %s %s %s\n", name, v, s.URL)
	}
	var out witnesses
	if out.policy, err = witness.ParsePolicy([]byte(text + "group two 2 w1 w2 w3\nquorum two\n")); err != nil {
		t.Fatal(err)
	}
	if out.none, err = witness.ParsePolicy([]byte("log " + vkey + "\nquorum none\n")); err != nil {
		t.Fatal(err)
	}
	out.peers = out.policy.Peers()
	return out
}

// cosign has n witnesses cosign the log in dir.
func (w witnesses) cosign(t *testing.T, dir string, n int) []byte {
	t.Helper()
	signed, err := w.ask(t, dir, n)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func (w witnesses) ask(t *testing.T, dir string, n int) ([]byte, error) {
	t.Helper()
	signed, err := os.ReadFile(filepath.Join(dir, layout.CheckpointPath))
	if err != nil {
		t.Fatal(err)
	}
	size, err := claimedSize(signed)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(signed)
	for _, p := range w.peers[:n] {
		line, err := witness.Ask(t.Context(), http.DefaultClient, p, signed, size, 0, Prover(dir))
		if err != nil {
			return nil, err
		}
		out = append(out, line...)
	}
	return out, nil
}

// export makes an export of what lies in dir.
func export(t *testing.T, m *memory, dir string, witnessed []byte) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "export")
	if err := Export(t.Context(), m, dir, witnessed, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func checkExport(t *testing.T, dir string, policy *witness.Policy) ExportReport {
	t.Helper()
	r, err := VerifyExport(t.Context(), dir, ExportCheck{Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantProblem(t *testing.T, r ExportReport, seq int64, kind string) {
	t.Helper()
	for _, p := range r.Problems {
		if p.Seq == seq && p.Kind == kind && !r.OK {
			return
		}
	}
	t.Errorf("no problem %s of record %d in %+v", kind, seq, r)
}

func TestExportVerifies(t *testing.T) {
	t.Parallel()
	m, _, key := trailed(t, 1500)
	m.records[7].Detail = []byte(`{ "n" : "<&>" }`) // bytes that JSON would rewrite
	m, dir := relog(t, m, key)
	w := observe(t, key)
	signed := w.cosign(t, dir, 2)
	out := export(t, m, dir, signed)
	r := checkExport(t, out, w.policy)
	if !r.OK || r.Records != 1500 || r.Witnessed != 1500 || r.WitnessedAt == nil || len(r.Witnesses) != 2 {
		t.Fatalf("report = %+v", r)
	}
	late := r.WitnessedAt.Add(time.Hour)
	if r, err := VerifyExport(t.Context(), out, ExportCheck{Policy: w.policy, Within: time.Minute, Now: late}); err != nil || r.OK {
		t.Errorf("cosignatures of an hour ago pass for new ones: %+v, %v", r, err)
	}
	wantProblem(t, checkExport(t, export(t, m, dir, w.cosign(t, dir, 1)), w.policy), -1, problemWitness)
	wantProblem(t, checkExport(t, export(t, m, dir, nil), w.policy), -1, problemWitness)
	if r := checkExport(t, export(t, m, dir, nil), w.none); !r.OK {
		t.Errorf("without witnesses wanted: %+v", r)
	}
	stranger := observe(t, newKey(t))
	r = checkExport(t, out, stranger.policy)
	wantProblem(t, r, -1, problemLog) // same origin, another key
}

// relog makes a log of a trail anew: what somebody does who holds its key.
func relog(t *testing.T, m *memory, key ed25519.PrivateKey) (*memory, string) {
	t.Helper()
	m = m.clone()
	for i := range m.records {
		m.records[i].LogIndex = -1
	}
	dir := filepath.Join(t.TempDir(), "audit")
	s, stop := session(t, auditConfig(dir, key), m)
	s.Wake()
	m.awaitLogged(t)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	return m, dir
}

// TestInsiderEditsExport alters database and log in all the ways of somebody
// without the log's key. Each is found, with the record.
func TestInsiderEditsExport(t *testing.T) {
	t.Parallel()
	m, dir, key := trailed(t, 900)
	w := observe(t, key)
	signed := w.cosign(t, dir, 3)
	for name, c := range map[string]struct {
		do   func(*memory)
		seq  int64
		kind string
	}{
		"changed":    {func(m *memory) { m.records[5].Actor = "person:bob" }, 5, problemEdited},
		"new salt":   {func(m *memory) { m.records[5].Salt[0] ^= 1 }, 5, problemEdited},
		"removed":    {func(m *memory) { m.records = append(m.records[:400:400], m.records[401:]...) }, 400, problemDeleted},
		"end cut":    {func(m *memory) { m.records = m.records[:800] }, 800, problemTruncated},
		"exchanged":  {func(m *memory) { a, b := &m.records[10], &m.records[20]; *a, *b = *b, *a; a.Seq, b.Seq = 10, 20 }, 10, problemReordered},
		"everything": {func(m *memory) { m.records = nil }, 0, problemRolled},
	} {
		altered := m.clone()
		c.do(altered)
		r := checkExport(t, export(t, altered, dir, signed), w.policy)
		wantProblem(t, r, c.seq, c.kind)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	// Lines of the export itself, out of order: named by line.
	out := export(t, m, dir, signed)
	file := filepath.Join(out, exportRecords)
	b, _ := os.ReadFile(file)
	lines := strings.SplitAfter(string(b), "\n")
	lines[3], lines[4] = lines[4], lines[3]
	if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyExport(t.Context(), out, ExportCheck{Policy: w.policy}); err == nil || !strings.Contains(err.Error(), "line 5") {
		t.Errorf("lines exchanged: %v", err)
	}
	// A bundle of entries rewritten to fit an altered record.
	altered := m.clone()
	altered.records[0].Object = "run/x"
	_, other := relog(t, altered, key)
	out = export(t, altered, dir, signed)
	first := func(dir string) string {
		files, _ := filepath.Glob(filepath.Join(dir, "tile", "entries", "000.p", "*"))
		return files[len(files)-1]
	}
	forged, _ := os.ReadFile(first(other))
	if err := os.WriteFile(first(filepath.Join(out, exportLog)), forged, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := checkExport(t, out, w.policy); r.OK {
		t.Errorf("rewritten entries pass: %+v", r)
	}
}

// TestInsiderWithTheKey is somebody who has database, disk and the log's key and
// makes history anew. The witnesses do not cosign it and what they cosigned before
// does not fit it; the control is that nothing but they can tell.
func TestInsiderWithTheKey(t *testing.T) {
	t.Parallel()
	m, dir, key := trailed(t, 900)
	w := observe(t, key)
	signed := w.cosign(t, dir, 2)
	altered := m.clone()
	altered.records[450].Actor = "person:bob"
	altered, forged := relog(t, altered, key)
	if r := report(t, altered, forged, key); !r.OK {
		t.Fatalf("the forgery is not good enough: %+v", r)
	}
	if r := checkExport(t, export(t, altered, forged, nil), w.none); !r.OK {
		t.Errorf("control: without witnesses the forgery should pass: %+v", r)
	}
	if r := checkExport(t, export(t, altered, forged, signed), w.policy); r.OK || r.Witnessed != 0 {
		t.Errorf("a rewritten history passes with the old cosignatures: %+v", r)
	} else {
		t.Log(r.Problems[0].Text)
	}
	wantProblem(t, checkExport(t, export(t, altered, forged, nil), w.policy), -1, problemWitness)
	if _, err := w.ask(t, forged, 1); err == nil {
		t.Error("a witness cosigned a fork")
	}
	// Cut back: an older log, with the newest cosignatures or none of that size.
	cut, short := relog(t, &memory{records: m.records[:300], marked: make(chan struct{}, 1)}, key)
	if r := checkExport(t, export(t, cut, short, signed), w.policy); r.OK {
		t.Errorf("a shorter history passes: %+v", r)
	}
	if _, err := w.ask(t, short, 1); err == nil {
		t.Error("a witness cosigned a rollback")
	}
}

// FuzzVerifyExport feeds files that nobody vouches for.
func FuzzVerifyExport(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	vkey, _ := LogKey(auditOrigin, key.Public().(ed25519.PublicKey))
	policy, err := witness.ParsePolicy([]byte("log " + vkey + "\nquorum none"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"seq":0,"at":"2026-01-02T03:04:05Z","actor":"a","action":"b","object":"c","salt":"AAAA","log_index":0}`+"\n"),
		[]byte(auditOrigin+"\n1\nAAAA\n\n— "+auditOrigin+" AAAA\n"), []byte{0, 1, 2})
	f.Fuzz(func(t *testing.T, records, checkpoint, bundle []byte) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "log", "tile", "entries", "000.p"), 0o700); err != nil {
			t.Fatal(err)
		}
		for path, content := range map[string][]byte{"records.jsonl": records, "witnessed": checkpoint, "log/checkpoint": checkpoint, "log/tile/entries/000.p/1": bundle} {
			if err := os.WriteFile(filepath.Join(dir, path), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := VerifyExport(context.Background(), dir, ExportCheck{Policy: policy}); err == nil && r.OK {
			t.Errorf("report %+v: nobody signed this", r)
		}
		source := exportSource{lines: bufio.NewReader(bytes.NewReader(records))}
		if list, err := source.Range(context.Background(), 0, 1000); err == nil {
			for i, r := range list {
				if r.Seq < 0 || i > 0 && r.Seq <= list[i-1].Seq {
					t.Errorf("records out of order: %+v", []sallyport.AuditRecord{list[i-1], r})
				}
			}
		}
	})
}
