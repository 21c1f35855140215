package toolkit

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	sallyport "github.com/sallyport-ci/sallyport"
)

func newService(t testing.TB, yard sallyport.Yard, change func(*Config)) *Service {
	t.Helper()
	cfg := Config{
		Yard: yard, Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Lease: &sallyport.Lease{
			Ref: sallyport.LeaseRef{Job: "job1", Token: "t"}, Run: sallyport.Run{ID: "run1"}, Job: sallyport.Job{ID: "job1", Key: "build"},
			Plan: &sallyport.Plan{Jobs: []sallyport.PlanJob{{Key: "build"}}},
		},
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) > 0 {
			t.Errorf("left of uploads: %v, %v", left, err)
		}
	})
	return s
}

// send makes one request to the server.
func send(s *Service, method, url, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, strings.TrimPrefix(url, base), strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func blockURL(u *upload, id string) string {
	return u.url() + "&comp=block&blockid=" + strings.NewReplacer("+", "%2B", "=", "%3D", "/", "%2F").Replace(id)
}

func blockList(ids ...string) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8" standalone="yes"?><BlockList>`)
	for _, id := range ids {
		b.WriteString("<Latest>" + id + "</Latest>")
	}
	return b.String() + "</BlockList>"
}

// noYard is for what asks the control plane nothing.
type noYard struct{ sallyport.Yard }

func content(t testing.TB, u *upload) string {
	t.Helper()
	r, err := u.read()
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(io.NewSectionReader(r, 0, r.Size()), readAll(t, r)); err != nil {
		t.Error(err)
	}
	return string(readAll(t, io.NewSectionReader(r, 0, r.Size())))
}

func readAll(t testing.TB, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPutBlocks(t *testing.T) {
	t.Parallel()
	s := newService(t, noYard{}, nil)
	u, err := s.uploads.begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct{ id, text string }{{"3", "three"}, {"1", "wrong"}, {"2", ""}, {"1", "one"}, {"9", "left out"}} {
		if w := send(s, "PUT", blockURL(u, b64(p.id)), p.text); w.Code != http.StatusCreated || w.Header().Get("x-ms-request-id") == "" {
			t.Fatalf("block %s: %d %s", p.id, w.Code, w.Body)
		}
	}
	if _, err := u.read(); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("content before it was committed: %v", err)
	}
	if w := send(s, "PUT", u.url()+"&comp=blocklist", blockList(b64("1"), b64("2"), b64("3"), b64("1"))); w.Code != http.StatusCreated || w.Header().Get("ETag") == "" {
		t.Fatalf("list: %d %s", w.Code, w.Body)
	}
	if got := content(t, u); got != "onethreeone" {
		t.Errorf("got %q", got)
	}
	if w := send(s, "PUT", u.url()+"&comp=blocklist", blockList(b64("9"))); w.Code != http.StatusBadRequest {
		t.Errorf("a block that the last list left out: %d", w.Code)
	}
	if w := send(s, "PUT", u.url(), "whole", "x-ms-blob-type", "BlockBlob", "Content-MD5", md5Of("whole")); w.Code != http.StatusCreated {
		t.Errorf("whole: %d %s", w.Code, w.Body)
	}
	if got := content(t, u); got != "whole" {
		t.Errorf("got %q", got)
	}
	u.finish()
	if w := send(s, "PUT", u.url(), "late", "x-ms-blob-type", "BlockBlob"); w.Code != http.StatusNotFound || w.Header().Get("x-ms-error-code") != "BlobNotFound" {
		t.Errorf("after the end: %d %s", w.Code, w.Body)
	}
	if s.uploads.bytes != 0 {
		t.Errorf("%d bytes are still counted", s.uploads.bytes)
	}
}

func md5Of(s string) string {
	sum := md5.Sum([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func TestPutBlobRefusals(t *testing.T) {
	t.Parallel()
	s := newService(t, noYard{}, nil)
	u, err := s.uploads.begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, url, body string
		headers         []string
		want            int
	}{
		{"no signature", base + "/blobs/uploads/" + u.id, "x", []string{"x-ms-blob-type", "BlockBlob"}, 404},
		{"wrong signature", base + "/blobs/uploads/" + u.id + "?sig=" + strings.Repeat("0", 64), "x", []string{"x-ms-blob-type", "BlockBlob"}, 404},
		{"another blob", base + "/blobs/uploads/x?sig=" + u.sig, "x", []string{"x-ms-blob-type", "BlockBlob"}, 404},
		{"append blob", u.url(), "x", []string{"x-ms-blob-type", "AppendBlob"}, 400},
		{"other operation", u.url() + "&comp=metadata", "x", nil, 400},
		{"id not in base64", u.url() + "&comp=block&blockid=%25", "x", nil, 400},
		{"no id", u.url() + "&comp=block", "x", nil, 400},
		{"long id", blockURL(u, b64(strings.Repeat("x", 65))), "x", nil, 400},
		{"digest", u.url(), "x", []string{"x-ms-blob-type", "BlockBlob", "Content-MD5", md5Of("y")}, 400},
		{"list of unknown blocks", u.url() + "&comp=blocklist", blockList(b64("1")), nil, 400},
		{"list too long", u.url() + "&comp=blocklist", strings.Repeat(" ", maxBlockList+1), nil, 400},
	} {
		if w := send(s, "PUT", c.url, c.body, c.headers...); w.Code != c.want || !strings.Contains(w.Body.String(), "<Error><Code>") {
			t.Errorf("%s: got %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
	}
	// A body of unknown or too great length, and one that ends early.
	for _, length := range []int64{-1, maxUploadBytes + 1, 10} {
		r := httptest.NewRequest("PUT", strings.TrimPrefix(u.url(), base), strings.NewReader("short"))
		r.Header.Set("x-ms-blob-type", "BlockBlob")
		r.ContentLength = length
		w := httptest.NewRecorder()
		if s.Handler().ServeHTTP(w, r); w.Code != http.StatusBadRequest {
			t.Errorf("length %d: %d", length, w.Code)
		}
	}
	for i := 1; i < maxUploads; i++ {
		if _, err := s.uploads.begin(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.uploads.begin(); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("upload %d: %v", maxUploads+1, err)
	}
	// A block that is listed again and again does not make a content without end.
	big := segment{0, 1 << 30}
	u.commit(slicesOf(big, 9)...)
	if _, err := u.read(); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("nine times a GiB: %v", err)
	}
}

func slicesOf(s segment, n int) (out []segment) {
	for range n {
		out = append(out, s)
	}
	return out
}

func TestToken(t *testing.T) {
	t.Parallel()
	var masked []string
	s := newService(t, noYard{}, func(c *Config) { c.Mask = func(m string) { masked = append(masked, m) } })
	parts := strings.Split(s.token, ".")
	if len(parts) != 3 || len(masked) == 0 || masked[0] != s.token {
		t.Fatalf("token of %d parts, masked %d", len(parts), len(masked))
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || !bytes.Contains(claims, []byte(`"scp":"Actions.Results:run1:job1"`)) {
		t.Errorf("claims %s, %v", claims, err)
	}
	names := func(action bool) (out []string) {
		for _, e := range s.Env(action) {
			out = append(out, e.Name)
		}
		return out
	}
	if got, want := fmt.Sprint(names(true)), "[ACTIONS_RUNTIME_URL ACTIONS_RUNTIME_TOKEN ACTIONS_RESULTS_URL ACTIONS_CACHE_URL ACTIONS_CACHE_SERVICE_V2]"; got != want {
		t.Errorf("an action gets %s, want %s", got, want)
	}
	if got := names(false); len(got) > 0 {
		t.Errorf("a script gets %v", got)
	}
}

func FuzzBlockList(f *testing.F) {
	f.Add([]byte(blockList(b64("1"), b64("22"))))
	f.Add([]byte(`<BlockList><Committed>MQ==</Committed><Uncommitted> Mg== </Uncommitted></BlockList>`))
	f.Add([]byte(`<!DOCTYPE x [<!ENTITY a "b">]><BlockList><Latest>&a;</Latest></BlockList>`))
	f.Add([]byte(`<BlockList><Latest><Latest>MQ==</Latest></Latest></BlockList>`))
	f.Add([]byte(`</BlockList>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		ids, err := parseBlockList(body)
		if err != nil {
			if sallyport.ErrorCode(err) != sallyport.CodeInvalid {
				t.Errorf("%v", err)
			}
			return
		}
		if len(ids) > len(body) {
			t.Errorf("%d ids in %d bytes", len(ids), len(body))
		}
		for _, id := range ids {
			if checkBlockID(id) != nil {
				t.Errorf("id %q", id)
			}
		}
		again, err := parseBlockList([]byte(blockList(ids...)))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(ids) {
			t.Errorf("again: %v, %v; want %v", again, err, ids)
		}
	})
}

func TestBlockListRefusals(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"", "x", "<BlockList>", "</BlockList>", "<BlockList/><BlockList/>", "<Other/>", "<BlockList>MQ==</BlockList>",
		"<BlockList><Earliest>MQ==</Earliest></BlockList>", "<BlockList><Latest><Latest>MQ==</Latest></Latest></BlockList>",
		"<BlockList><Latest>!</Latest></BlockList>", "<BlockList><Latest></Latest></BlockList>", "<BlockList></BlockList></BlockList>",
		`<!DOCTYPE x><BlockList></BlockList>`, "<BlockList><Latest>&a;</Latest></BlockList>", blockList(make([]string, maxBlocks+1)...),
		strings.Replace(blockList(slicesOfText(b64("1"), maxBlocks+1)...), "\n", "", -1),
	} {
		if ids, err := parseBlockList([]byte(body)); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%.80s: got %d ids, %v", body, len(ids), err)
		}
	}
	if ids, err := parseBlockList([]byte("<BlockList/>")); err != nil || len(ids) > 0 {
		t.Errorf("an empty list: %v, %v", ids, err)
	}
}

func slicesOfText(s string, n int) (out []string) {
	for range n {
		out = append(out, s)
	}
	return out
}
