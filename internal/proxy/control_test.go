package proxy

import (
	"encoding/json"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

func TestDecodeRequestRefuses(t *testing.T) {
	t.Parallel()
	ok := `{"op":"set","route":{"key":"p/e","address":"","backends":[{"deployment":"d","socket":"/s","weight":1}]}}`
	if _, err := decodeRequest([]byte(ok)); err != nil {
		t.Fatalf("%s: %v", ok, err)
	}
	for name, line := range map[string]string{
		"nothing":           ``,
		"no object":         `[]`,
		"unknown operation": `{"op":"format"}`,
		"unknown field":     `{"op":"status","shell":"x"}`,
		"a tail":            `{"op":"status"}{"op":"stop"}`,
		"no route":          `{"op":"set"}`,
		"route not asked":   `{"op":"status","route":{"key":"k"}}`,
		"no deployment":     `{"op":"drain"}`,
		"long deployment":   `{"op":"report","deployment":"` + strings.Repeat("d", 65) + `"}`,
		"negative wait":     `{"op":"drain","deployment":"d","wait":-1}`,
		"endless wait":      `{"op":"drain","deployment":"d","wait":999999999999999}`,
		"empty key":         strings.Replace(ok, "p/e", "", 1),
		"key with newline":  strings.Replace(ok, "p/e", `p\ne`, 1),
		"relative socket":   strings.Replace(ok, `"/s"`, `"s"`, 1),
		"unclean socket":    strings.Replace(ok, `"/s"`, `"/a/../s"`, 1),
		"long socket":       strings.Replace(ok, `"/s"`, `"/`+strings.Repeat("s", 107)+`"`, 1),
		"heavy":             strings.Replace(ok, `"weight":1`, `"weight":101`, 1),
		"negative weight":   strings.Replace(ok, `"weight":1`, `"weight":-1`, 1),
	} {
		if q, err := decodeRequest([]byte(line)); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%s: %s: got %+v, %v", name, line, q, err)
		}
	}
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(`{"op":"status"}`))
	f.Add([]byte(`{"op":"drain","deployment":"d","wait":1000}`))
	f.Add([]byte(`{"op":"set","route":{"key":"p/e","listen":"127.0.0.1:0","address":"","backends":[{"deployment":"d","socket":"/s","weight":100}]}}`))
	f.Add([]byte(`{"op":"set","route":null}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		q, err := decodeRequest(line)
		if err != nil {
			if sallyport.ErrorCode(err) != sallyport.CodeInvalid {
				t.Fatalf("code of %v", err)
			}
			return
		}
		if q.Wait < 0 || q.Wait > maxDrain || (q.Op == opSet) != (q.Route != nil) {
			t.Fatalf("accepted %+v", q)
		}
		b, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRequest(b); err != nil {
			t.Fatalf("%s was accepted, its own encoding %s is not: %v", line, b, err)
		}
	})
}

func TestControlSocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(shortDir(t), "p")
	c := start(t, dir)
	path := filepath.Join(dir, socketFile)
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("mode of the socket: %v, %v", fi, err)
	}
	for name, sent := range map[string]string{
		"garbage":           "GET / HTTP/1.1\r\n",
		"without an end":    `{"op":"status"}`,
		"longer than a MiB": strings.Repeat("x", 1<<20),
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(sent))
		_ = conn.(*net.UnixConn).CloseWrite()
		_ = conn.Close()
		if _, err := c.Status(t.Context()); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
}

func TestHistogram(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		d := time.Duration(rnd.Int64N(1 << rnd.IntN(57)))
		if got := top(bucketOf(d)); got <= d || got > d+d/8+2*time.Microsecond {
			if bucketOf(d) < buckets-1 {
				t.Fatalf("%v is in a bucket up to %v", d, got)
			}
		}
	}
	var h histogram
	if got := h.quantile(95); got != 0 {
		t.Errorf("of none: %v", got)
	}
	for i := range 100 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	if got := h.quantile(95); got < 95*time.Millisecond || got > 108*time.Millisecond {
		t.Errorf("p95 of 1..100 ms: %v", got)
	}
	h.add(-time.Second)
	h.add(1<<63 - 1)
}
