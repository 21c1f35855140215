package witness

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// history is a log in memory, on the tree of another implementation.
type history struct {
	t      *testing.T
	signer note.Signer
	vkey   string
	size   int64
	hashes []tlog.Hash
}

func newHistory(t *testing.T, origin string) *history {
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return &history{t: t, signer: signer, vkey: vkey}
}

func (h *history) ReadHashes(at []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range at {
		out = append(out, h.hashes[i])
	}
	return out, nil
}

// grow adds n entries; word tells histories apart.
func (h *history) grow(n int, word string) *history {
	for range n {
		hashes, err := tlog.StoredHashes(h.size, fmt.Append(nil, word, h.size), h)
		if err != nil {
			h.t.Fatal(err)
		}
		h.hashes = append(h.hashes, hashes...)
		h.size++
	}
	return h
}

// fork is what somebody with the log's key makes of it.
func (h *history) fork() *history { return &history{t: h.t, signer: h.signer, vkey: h.vkey} }

func (h *history) root() []byte {
	if h.size == 0 {
		return rfc6962.DefaultHasher.EmptyRoot()
	}
	root, err := tlog.TreeHash(h.size, h)
	if err != nil {
		h.t.Fatal(err)
	}
	return root[:]
}

func (h *history) checkpoint() []byte {
	text := log.Checkpoint{Origin: h.signer.Name(), Size: uint64(h.size), Hash: h.root()}.Marshal()
	raw, err := note.Sign(&note.Note{Text: string(text)}, h.signer)
	if err != nil {
		h.t.Fatal(err)
	}
	return raw
}

func (h *history) prove(_ context.Context, from, to uint64) ([][]byte, error) {
	p, err := tlog.ProveTree(int64(to), int64(from), h)
	var out [][]byte
	for _, x := range p {
		out = append(out, x[:])
	}
	return out, err
}

func (h *history) request(old uint64) []byte {
	r := request{old: old, checkpoint: h.checkpoint()}
	if old > 0 && old < uint64(h.size) {
		r.proof, _ = h.prove(h.t.Context(), old, uint64(h.size))
	}
	return r.encode()
}

// observer is a witness that serves.
type observer struct {
	peer Peer
	key  string
	dir  string
	vkey string
	*httptest.Server
}

func observe(t *testing.T, name string, logs ...string) *observer {
	key, err := MakeKey(name)
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := VerifierKey(key)
	if err != nil {
		t.Fatal(err)
	}
	o := &observer{key: key, dir: t.TempDir(), vkey: vkey}
	o.restart(t, logs...)
	return o
}

func (o *observer) restart(t *testing.T, logs ...string) {
	policy, err := ParseLogs([]byte("log " + strings.Join(logs, "\nlog ")))
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(Config{Dir: o.dir, Key: o.key, Policy: policy, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	o.Server = httptest.NewServer(w.Handler())
	t.Cleanup(func() { o.Server.Close(); w.Close() })
	p, err := ParsePolicy(fmt.Appendf(nil, "witness one %s %s\nquorum one", o.vkey, o.URL))
	if err != nil {
		t.Fatal(err)
	}
	o.peer = p.Peers()[0]
}

func (o *observer) post(t *testing.T, body []byte) (int, string) {
	t.Helper()
	status, answer, err := post(t.Context(), http.DefaultClient, o.URL+Path, body)
	if err != nil {
		t.Fatal(err)
	}
	return status, string(answer)
}

func TestWitnessProtocol(t *testing.T) {
	t.Parallel()
	h := newHistory(t, "audit.example").grow(5, "a")
	o := observe(t, "w.example", h.vkey)
	other := newHistory(t, "audit.example").grow(5, "a") // same name, another key
	stranger := newHistory(t, "else.example").grow(1, "a")
	check := func(name string, body []byte, want int, contains string) {
		t.Helper()
		if got, answer := o.post(t, body); got != want || !strings.Contains(answer, contains) {
			t.Errorf("%s: %d %q, want %d %q", name, got, answer, want, contains)
		}
	}
	check("old tree that was never seen", h.request(3), 409, "0\n")
	check("first", h.request(0), 200, "— w.example ")
	check("again", h.request(5), 200, "— w.example ")
	check("again, as if for the first time", h.request(0), 409, "5\n")
	check("unknown log", stranger.request(0), 404, "")
	check("another key", other.request(5), 403, "")
	check("not a request", []byte("old 5\n"), 400, "")
	check("old larger than new", h.request(7), 400, "")
	check("same size, another tree", h.fork().grow(5, "b").request(5), 409, "5\n")
	check("fork", h.fork().grow(9, "b").request(5), 422, "")
	check("rollback", h.fork().grow(4, "a").request(4), 409, "5\n")
	check("rollback to nothing", h.fork().request(0), 409, "5\n")
	check("too large", append(h.request(5), bytes.Repeat([]byte("x"), maxRequest)...), 400, "")
	h.grow(300, "a")
	check("no proof", request{old: 5, checkpoint: h.checkpoint()}.encode(), 422, "")
	check("growth", h.request(5), 200, "— w.example ")
}

// TestWitnessRemembers restarts a witness: what it vouched for is on the disk.
// The control is a witness that forgot, which vouches for the fork.
func TestWitnessRemembers(t *testing.T) {
	t.Parallel()
	h := newHistory(t, "audit.example").grow(5, "a")
	o := observe(t, "w.example", h.vkey)
	if got, answer := o.post(t, h.request(0)); got != 200 {
		t.Fatal(got, answer)
	}
	policy, _ := ParseLogs([]byte("log " + h.vkey))
	if _, err := New(Config{Dir: o.dir, Key: o.key, Policy: policy, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("two witnesses share their state")
	}
	fork := h.fork().grow(9, "b")
	again := func(dir string) int {
		w, err := New(Config{Dir: dir, Key: o.key, Policy: policy, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		rec := httptest.NewRecorder()
		w.Handler().ServeHTTP(rec, httptest.NewRequest("POST", Path, bytes.NewReader(fork.request(0))))
		return rec.Code
	}
	kept := t.TempDir()
	if err := os.CopyFS(kept, os.DirFS(o.dir)); err != nil {
		t.Fatal(err)
	}
	if got := again(kept); got != 409 {
		t.Errorf("a restarted witness answers a fork with %d", got)
	}
	if got := again(t.TempDir()); got != 200 {
		t.Errorf("control: a witness that forgot answers %d", got)
	}
	files, _ := filepath.Glob(filepath.Join(kept, "*.seen"))
	for _, broken := range []string{"", "audit.example\n5\n", "audit.example\n05\nAAAA\n", "else.example\n0\n" + strings.Repeat("A", 43) + "=\n"} {
		if err := os.WriteFile(files[0], []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if w, err := New(Config{Dir: kept, Key: o.key, Policy: policy, Log: slog.New(slog.DiscardHandler)}); err == nil {
			w.Close()
			t.Errorf("state %q was taken", broken)
		}
	}
}

func TestAskAndCheck(t *testing.T) {
	t.Parallel()
	h := newHistory(t, "audit.example").grow(5, "a")
	one, two, three := observe(t, "one.example", h.vkey), observe(t, "two.example", h.vkey), observe(t, "three.example", h.vkey)
	text := fmt.Sprintf("# who\nlog %s\nwitness 1st %s\nwitness 2nd %s\nwitness 3rd %s\ngroup two-of 2 1st 2nd 3rd\nquorum two-of\n", h.vkey, one.vkey, two.vkey, three.vkey)
	policy, err := ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(o *observer, h *history, from uint64) ([]byte, error) {
		return Ask(t.Context(), http.DefaultClient, o.peer, h.checkpoint(), uint64(h.size), from, h.prove)
	}
	first, err := ask(one, h, 0)
	if err != nil {
		t.Fatal(err)
	}
	signed := append(h.checkpoint(), first...)
	if w, err := policy.Check(signed); err != nil || w.Enough || len(w.By) != 1 || w.Size != 5 {
		t.Errorf("one of three: %+v, %v", w, err)
	}
	if w, err := policy.Check(append(bytes.Clone(signed), first...)); err == nil && w.Enough {
		t.Error("one witness counts twice")
	}
	second, err := ask(two, h, 3) // it knows nothing yet, and says so
	if err != nil {
		t.Fatal(err)
	}
	signed = append(signed, second...)
	if w, err := policy.Check(signed); err != nil || !w.Enough || w.At.IsZero() {
		t.Errorf("two of three: %+v, %v", w, err)
	}
	h.grow(4, "a")
	if _, err := ask(one, h, 0); err != nil {
		t.Errorf("told what it knows, the feeder goes on from there: %v", err)
	}
	if _, err := ask(one, h.fork().grow(12, "b"), 0); !errors.Is(err, ErrFork) {
		t.Errorf("fork: %v", err)
	}
	if _, err := ask(one, h.fork().grow(2, "a"), 0); !errors.Is(err, ErrFork) {
		t.Errorf("rollback: %v", err)
	}
	moved := append(h.checkpoint(), append(first, second...)...) // cosignatures of another tree
	if w, err := policy.Check(moved); err == nil && w.Enough {
		t.Error("cosignatures of an older tree count for a newer one")
	}
}

func TestPolicyRefusals(t *testing.T) {
	t.Parallel()
	h := newHistory(t, "audit.example")
	key, _ := MakeKey("w.example")
	vkey, _ := VerifierKey(key)
	key2, _ := MakeKey("x.example")
	vkey2, _ := VerifierKey(key2)
	renamed := strings.Replace(vkey, "w.example", "v.example", 1)
	w := "witness a " + vkey + "\n"
	for name, text := range map[string]string{
		"no quorum":           w,
		"two quorums":         w + "quorum a\nquorum none",
		"unknown quorum":      "quorum a",
		"forward reference":   "group g any a\n" + w + "quorum g",
		"name twice":          w + "witness a " + vkey2 + "\nquorum a",
		"key twice":           w + "witness b " + vkey + "\nquorum a",
		"key twice, renamed":  w + "witness b " + renamed + "\nquorum a",
		"member twice":        w + "group g 2 a a\nquorum g",
		"member of two":       w + "group g 1 a\ngroup h 1 a\nquorum g",
		"zero of one":         w + "group g 0 a\nquorum g",
		"two of one":          w + "group g 2 a\nquorum g",
		"a word as a name":    "witness none " + vkey + "\nquorum none",
		"address with secret": "witness a " + vkey + " http://user:pass@127.0.0.1/\nquorum a",
		"address of a file":   "witness a " + vkey + " file:///etc/passwd\nquorum a",
		"log twice":           "log " + h.vkey + "\nlog " + h.vkey + "\nquorum none",
		"log key for witness": "log " + vkey + "\nquorum none",
		"unknown word":        "trust me\nquorum none",
		"too large":           "quorum none\n#" + strings.Repeat("x", maxPolicy),
	} {
		if _, err := ParsePolicy([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if p, err := ParsePolicy([]byte(w + "witness b " + vkey2 + "\ngroup g 2 a b\nquorum g")); err != nil || len(p.Peers()) != 0 {
		t.Errorf("control: %v", err)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte("old 0\n\nx\n1\nAAAA\n"))
	f.Add(request{old: 9, proof: [][]byte{make([]byte, 32)}, checkpoint: []byte("x")}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRequest(b); err == nil && (!bytes.Equal(r.encode(), b) || len(r.proof) > maxProof) {
			t.Errorf("accepted %q", b)
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte("witness a w.example+00000000+AAAA http://127.0.0.1/\ngroup g any a\nquorum g"), []byte("x\n1\nAAAA\n\n— x AAAA\n"))
	f.Fuzz(func(t *testing.T, b, checkpoint []byte) {
		p, err := ParsePolicy(b)
		if err != nil {
			return
		}
		if w, err := p.Check(checkpoint); err == nil && len(p.logs) == 0 {
			t.Errorf("a checkpoint of no log was accepted: %+v", w)
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	skey, vkey, _ := note.GenerateKey(rand.Reader, "x")
	_ = skey
	v, _ := note.NewVerifier(vkey)
	f.Add([]byte("x\n1\nAAAA\n\n— x AAAA\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := openCheckpoint(b, v); err == nil {
			t.Errorf("nobody signed %+v", c)
		}
	})
}
