package broker

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/redact"
)

// BenchmarkLend measures a request with an answer of 1 KiB and of 8 MiB through a broker: a
// connection more, a scan of all that comes back.
func BenchmarkLend(b *testing.B) {
	for _, size := range []int{1 << 10, 8 << 20} {
		b.Run(fmt.Sprintf("%d KiB", size>>10), func(b *testing.B) {
			body := bytes.Repeat([]byte("nothing secret in this line of text\n"), size/36+1)[:size]
			n := newBench(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(body) }),
				sallyport.CredentialRule{Kind: sallyport.CredentialBearer, Host: "api.example.com"})
			url := fmt.Sprintf("https://api.example.com:%d/", n.port)
			b.SetBytes(int64(size))
			for b.Loop() {
				answer, err := n.client.Get(url)
				if err != nil {
					b.Fatal(err)
				}
				if got, err := io.Copy(io.Discard, answer.Body); err != nil || got != int64(size) {
					b.Fatal(got, err)
				}
				answer.Body.Close()
			}
		})
	}
	b.Run("scan alone", func(b *testing.B) {
		s := redact.New(redact.Config{})
		if err := s.Add(canary); err != nil {
			b.Fatal(err)
		}
		text := bytes.Repeat([]byte("nothing secret in this line of text\n"), 32<<10/36)
		w := s.NewScrubber(io.Discard)
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			_, _ = w.Write(text)
		}
	})
}
