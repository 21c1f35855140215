package door_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/door"
)

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// hello answers with what it was asked.
var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "%s %s %s %s %d\n", r.Proto, r.Method, r.Host, r.URL, n)
})

func TestDoor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.web("good.test", hello)
	w.web("read.test", hello)
	w.open(door.Config{Rules: table{
		ports:   map[string][]int{"good.test": {80, 443}, "read.test": {80, 443}},
		methods: map[string][]string{"read.test": {"GET"}},
	}})
	for _, c := range []struct{ name, script, out string }{
		{"https", "curl -sS https://good.test/x", "HTTP/2.0 GET good.test /x 0"},
		{"http", "curl -sS http://good.test/x", "HTTP/1.1 GET good.test /x 0"},
		{"read", "curl -sS https://read.test/x", "HTTP/2.0 GET read.test /x 0"},
		{"read, refused", "curl -sS -d a=b https://read.test/x", "The door of this job refused POST read.test: method-not-allowed."},
		{"unknown", "curl -sS https://bad.test/", "curl: (6) Could not resolve host: bad.test"},
	} {
		out, _ := w.sh(c.script)
		if out != c.out {
			t.Errorf("%s: got %q, want %q", c.name, out, c.out)
		}
	}
	w.await("dns", "bad.test", sallyport.EgressDenied, "host-not-allowed")
}
