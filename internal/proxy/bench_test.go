package proxy

import (
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkRequest compares a request to the release through the proxy with
// one to the same server directly, both over loopback TCP with keep-alive.
func BenchmarkRequest(b *testing.B) {
	dir := shortDir(b)
	c := start(b, filepath.Join(dir, "p"))
	for _, size := range []struct {
		name string
		n    int
	}{{"1KiB", 1 << 10}, {"1MiB", 1 << 20}} {
		body := strings.Repeat("x", size.n)
		handler := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
		r := newRelease(b, dir, "r"+size.name, 100, handler)
		through := mustSet(b, c, "p/"+size.name, r.Backend)
		direct := newDirect(b, handler)
		for _, way := range []struct{ name, url string }{{"direct", direct}, {"proxied", through}} {
			b.Run(size.name+"/"+way.name, func(b *testing.B) {
				hc := client(b)
				b.SetBytes(int64(size.n))
				b.ReportAllocs()
				for b.Loop() {
					resp, err := hc.Get(way.url)
					if err != nil {
						b.Fatal(err)
					}
					if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(size.n) {
						b.Fatalf("%d bytes, %v", n, err)
					}
					resp.Body.Close()
				}
			})
		}
	}
}

func newDirect(b *testing.B, h http.HandlerFunc) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	b.Cleanup(func() { s.Close(); <-done })
	return "http://" + l.Addr().String()
}
