package toolkit

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// shelf is a control plane that keeps artifacts in memory.
type shelf struct {
	sallyport.Yard
	mu    sync.Mutex
	kept  []sallyport.Artifact
	bytes map[string][]byte
	err   error // of PutArtifact, when set
}

func newShelf() *shelf { return &shelf{bytes: map[string][]byte{}} }

func (y *shelf) PutArtifact(_ context.Context, l sallyport.LeaseRef, name string, content io.Reader) (sallyport.Artifact, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.err != nil {
		return sallyport.Artifact{}, y.err
	}
	b, err := io.ReadAll(content)
	if err != nil {
		return sallyport.Artifact{}, err
	}
	a := sallyport.Artifact{ID: sallyport.ArtifactID("id-of-" + name), Job: l.Job, Name: name, Size: int64(len(b)), CreatedAt: time.Unix(1e9, 0)}
	y.kept, y.bytes[name] = append(y.kept, a), b
	return a, nil
}

func (y *shelf) Artifacts(context.Context, sallyport.LeaseRef, sallyport.RunID) ([]sallyport.Artifact, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	return append([]sallyport.Artifact(nil), y.kept...), nil
}

func (y *shelf) GetArtifact(_ context.Context, _ sallyport.LeaseRef, _ sallyport.RunID, name string) (sallyport.Artifact, io.ReadCloser, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	b, ok := y.bytes[name]
	if !ok {
		return sallyport.Artifact{}, nil, sallyport.Errorf(sallyport.CodeNotFound, "none")
	}
	return sallyport.Artifact{Name: name}, io.NopCloser(bytes.NewReader(b)), nil
}

// call makes a call of the artifact service.
func call(t testing.TB, s *Service, method string, in map[string]any, out any) (status int, p problem) {
	t.Helper()
	if _, set := in["workflow_run_backend_id"]; !set {
		in["workflow_run_backend_id"], in["workflow_job_run_backend_id"] = "run1", "job1"
	}
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	w := send(s, "POST", "/twirp/"+artifactService+"/"+method, string(body), "Authorization", "Bearer "+s.token, "Content-Type", "application/json")
	into := any(&p)
	if w.Code == http.StatusOK {
		into = out
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		t.Fatalf("%s: %d %s: %v", method, w.Code, w.Body, err)
	}
	return w.Code, p
}

type entry struct {
	name, text string
	mode       fs.FileMode
}

func zipOf(t testing.TB, entries ...entry) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(e.mode)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// listTar returns "mode name text" of each entry.
func listTar(t testing.TB, b []byte) string {
	t.Helper()
	var out strings.Builder
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%o %s %s\n", h.Mode, h.Name, readAll(t, r))
	}
}

func TestArtifact(t *testing.T) {
	t.Parallel()
	yard := newShelf()
	s := newService(t, yard, nil)
	body := zipOf(t, entry{"b/c.txt", "see", 0o644}, entry{"b/", "", 0o755 | fs.ModeDir}, entry{"a", "run", 0o755})
	var made createOut
	if code, p := call(t, s, "CreateArtifact", map[string]any{"name": "dist", "version": 4}, &made); code != 200 || !made.OK {
		t.Fatalf("create: %d %v", code, p)
	}
	if w := send(s, "PUT", made.URL, body, "x-ms-blob-type", "BlockBlob"); w.Code != 201 {
		t.Fatalf("put: %d %s", w.Code, w.Body)
	}
	sum := sha256.Sum256([]byte(body))
	finalize := map[string]any{"name": "dist", "size": fmt.Sprint(len(body)), "hash": "sha256:" + hex.EncodeToString(sum[:])}
	var done, again artifactOut
	if code, p := call(t, s, "FinalizeArtifact", finalize, &done); code != 200 || !done.OK || done.ID <= 0 || done.ID >= 1<<53 {
		t.Fatalf("finalize: %d %v %v", code, p, done)
	}
	if code, p := call(t, s, "FinalizeArtifact", finalize, &again); code != 200 || again != done || len(yard.kept) != 1 {
		t.Errorf("finalize again: %d %v %v", code, p, again)
	}
	if got, want := listTar(t, yard.bytes["dist"]), "755 a run\n644 b/c.txt see\n"; got != want {
		t.Errorf("kept %q, want %q", got, want)
	}
	if code, p := call(t, s, "CreateArtifact", map[string]any{"name": "dist", "version": 7}, &made); code != 409 || p.Code != "already_exists" {
		t.Errorf("the name again: %d %v", code, p)
	}
	// A file that is not packed, and is not to be unpacked.
	if code, p := call(t, s, "CreateArtifact", map[string]any{"name": "note.txt", "version": 7, "mime_type": "text/plain"}, &made); code != 200 {
		t.Fatalf("create: %d %v", code, p)
	}
	send(s, "PUT", made.URL, "plain", "x-ms-blob-type", "BlockBlob")
	if code, p := call(t, s, "FinalizeArtifact", map[string]any{"name": "note.txt", "size": 5}, &again); code != 200 {
		t.Fatalf("finalize: %d %v", code, p)
	}
	if got := listTar(t, yard.bytes["note.txt"]); got != "644 note.txt plain\n" {
		t.Errorf("kept %q", got)
	}

	var list listOut
	for _, c := range []struct {
		filter map[string]any
		want   int
	}{{map[string]any{}, 2}, {map[string]any{"name_filter": "dist"}, 1}, {map[string]any{"id_filter": fmt.Sprint(int64(done.ID))}, 1},
		{map[string]any{"name_filter": "Dist"}, 0}, {map[string]any{"name_filter": nil, "id_filter": "1"}, 0}} {
		if code, p := call(t, s, "ListArtifacts", c.filter, &list); code != 200 || len(list.Artifacts) != c.want {
			t.Errorf("list %v: %d %v %v, want %d", c.filter, code, p, list, c.want)
		}
	}
	var signed signOut
	if code, p := call(t, s, "GetSignedArtifactURL", map[string]any{"name": "dist"}, &signed); code != 200 {
		t.Fatalf("sign: %d %v", code, p)
	}
	w := send(s, "GET", signed.URL, "")
	z, err := zip.NewReader(bytes.NewReader(w.Body.Bytes()), int64(w.Body.Len()))
	if err != nil || w.Header().Get("Content-Type") != "application/zip" || len(z.File) != 2 || z.File[0].Mode() != 0o755 {
		t.Errorf("download: %d %v %v", w.Code, err, z)
	}
	if w := send(s, "GET", strings.Split(signed.URL, "?")[0]+"?sig=", ""); w.Code != 404 {
		t.Errorf("download without a signature: %d", w.Code)
	}
	if code, p := call(t, s, "GetSignedArtifactURL", map[string]any{"name": "other"}, &signed); code != 404 || p.Code != "not_found" {
		t.Errorf("sign what is not there: %d %v", code, p)
	}
}

func TestArtifactRefusals(t *testing.T) {
	t.Parallel()
	lost := 0
	yard := newShelf()
	s := newService(t, yard, func(c *Config) { c.Lost = func() { lost++ } })
	var out json.RawMessage
	for _, c := range []struct {
		method string
		in     map[string]any
		want   int
	}{
		{"CreateArtifact", map[string]any{"name": "a", "version": 3}, 400},
		{"CreateArtifact", map[string]any{"name": "", "version": 4}, 400},
		{"CreateArtifact", map[string]any{"name": "a/b", "version": 4}, 400},
		{"CreateArtifact", map[string]any{"name": "..", "version": 4}, 400},
		{"CreateArtifact", map[string]any{"name": strings.Repeat("x", 257), "version": 4}, 400},
		{"CreateArtifact", map[string]any{"name": "a", "version": 4, "workflow_run_backend_id": "another"}, 404},
		{"FinalizeArtifact", map[string]any{"name": "a", "size": "1"}, 404},
		{"FinalizeArtifact", map[string]any{"name": "a", "size": "x"}, 400},
		{"FinalizeArtifact", map[string]any{"name": 7}, 400},
		{"ListArtifacts", map[string]any{"workflow_run_backend_id": "another"}, 404},
		{"DeleteArtifact", map[string]any{"name": "a"}, 404},
	} {
		if code, p := call(t, s, c.method, c.in, &out); code != c.want || p.Msg == "" {
			t.Errorf("%s %v: got %d %v, want %d", c.method, c.in, code, p, c.want)
		}
	}
	path := "/twirp/" + artifactService + "/ListArtifacts"
	for _, c := range []struct {
		name, body string
		headers    []string
		want       int
	}{
		{"no token", "{}", []string{"Content-Type", "application/json"}, 403},
		{"another token", "{}", []string{"Authorization", "Bearer x", "Content-Type", "application/json"}, 403},
		{"protobuf", "{}", []string{"Authorization", "Bearer " + s.token, "Content-Type", "application/protobuf"}, 400},
		{"not JSON", "{", []string{"Authorization", "Bearer " + s.token, "Content-Type", "application/json"}, 400},
		{"long", `{"x":"` + strings.Repeat("x", maxMessage) + `"}`, []string{"Authorization", "Bearer " + s.token, "Content-Type", "application/json"}, 400},
	} {
		if w := send(s, "POST", path, c.body, c.headers...); w.Code != c.want {
			t.Errorf("%s: got %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
	}
	// What is uploaded does not match what is said of it, or is not kept.
	var made createOut
	call(t, s, "CreateArtifact", map[string]any{"name": "a", "version": 4}, &made)
	if code, _ := call(t, s, "FinalizeArtifact", map[string]any{"name": "a", "size": "1"}, &out); code != 400 {
		t.Errorf("nothing uploaded: %d", code)
	}
	send(s, "PUT", made.URL, zipOf(t, entry{"f", "x", 0o644}), "x-ms-blob-type", "BlockBlob")
	size := len(zipOf(t, entry{"f", "x", 0o644}))
	for _, in := range []map[string]any{{"name": "a", "size": 1}, {"name": "a", "size": size, "hash": "sha256:00"}} {
		if code, p := call(t, s, "FinalizeArtifact", in, &out); code != 400 {
			t.Errorf("%v: %d %v", in, code, p)
		}
	}
	yard.err = sallyport.Errorf(sallyport.CodeConflict, "the lease is not held any more")
	if code, _ := call(t, s, "FinalizeArtifact", map[string]any{"name": "a", "size": size}, &out); code != 409 || lost != 1 {
		t.Errorf("lost lease: %d, told %d times", code, lost)
	}
	yard.err = errors.New("secret of the host")
	if code, p := call(t, s, "FinalizeArtifact", map[string]any{"name": "a", "size": size}, &out); code != 500 || strings.Contains(p.Msg, "secret") {
		t.Errorf("our own fault: %d %v", code, p)
	}
	yard.err = nil
	if code, p := call(t, s, "FinalizeArtifact", map[string]any{"name": "a", "size": size}, &out); code != 200 {
		t.Errorf("after all: %d %v", code, p)
	}
}

func FuzzMessages(f *testing.F) {
	for _, m := range []string{`{"name":"a","version":4,"mime_type":"text/plain"}`, `{"name":"a","size":"12","hash":"sha256:00"}`,
		`{"id_filter":"9007199254740993","name_filter":null}`, `{"size":1e400}`, `{"id_filter":{"value":"1"}}`, `[]`, `nul`} {
		f.Add([]byte(strings.Replace(m, "{", `{"workflow_run_backend_id":"run1",`, 1)))
	}
	yard := newShelf()
	s := newService(f, yard, nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, method := range []string{"CreateArtifact", "FinalizeArtifact", "ListArtifacts", "GetSignedArtifactURL", "DeleteArtifact"} {
			w := send(s, "POST", "/twirp/"+artifactService+"/"+method, string(body), "Authorization", "Bearer "+s.token, "Content-Type", "application/json")
			if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s: %d %s", method, w.Code, w.Body)
			}
		}
		if len(yard.kept) > 0 {
			t.Error("an artifact without a content was kept")
		}
	})
}
