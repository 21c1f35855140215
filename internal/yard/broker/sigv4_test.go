package broker

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The examples of "Authenticating Requests: Using the Authorization Header" and "Signature
// Calculations for the Authorization Header: Transferring Payload in Multiple Chunks" in AWS's S3 API
// reference, with its key.
var example = signer{
	id: "AKIAIOSFODNN7EXAMPLE", key: []byte("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), region: "us-east-1", service: "s3",
	at: time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC),
}

func TestSignaturesAreThoseOfAWS(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, url string
		headers     []string
		payload     string
		want        string
	}{
		{"GET", "/test.txt", []string{"Range", "bytes=0-9"}, emptyHash, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{"GET", "/?lifecycle", nil, emptyHash, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		{"GET", "/?max-keys=2&prefix=J", nil, emptyHash, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
	} {
		r, err := http.NewRequest(c.method, "https://examplebucket.s3.amazonaws.com"+c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(c.headers); i += 2 {
			r.Header.Set(c.headers[i], c.headers[i+1])
		}
		r.Header.Set("X-Amz-Content-Sha256", c.payload)
		if got := example.sign(r, c.payload); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.method, c.url, got, c.want)
		}
		if auth := r.Header.Get("Authorization"); !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;") {
			t.Errorf("%s", auth)
		}
	}
}

func TestChunksAreSignedAsByAWS(t *testing.T) {
	t.Parallel()
	const (
		seed  = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
		first = "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"
		next  = "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"
		last  = "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"
	)
	body := func(a, b, c string) string {
		return "10000;chunk-signature=" + a + "\r\n" + strings.Repeat("a", 65536) + "\r\n400;chunk-signature=" + b + "\r\n" + strings.Repeat("a", 1024) + "\r\n0;chunk-signature=" + c + "\r\n\r\n"
	}
	dummy := strings.Repeat("0", 64)
	got, err := io.ReadAll(newRechunker(strings.NewReader(body(dummy, dummy, dummy)), example, seed, false))
	if err != nil {
		t.Fatal(err)
	}
	if want := body(first, next, last); string(got) != want {
		t.Errorf("got …%q\nwant …%q", got[len(got)-200:], want[len(want)-200:])
	}
}

func FuzzRechunker(f *testing.F) {
	f.Add([]byte("4;chunk-signature=00\r\nabcd\r\n0;chunk-signature=00\r\n\r\n"), false)
	f.Add([]byte("0;chunk-signature=00\r\nx-amz-checksum-crc32c:aaaa\n\r\nx-amz-trailer-signature:00\r\n\r\n"), true)
	f.Add([]byte("ffffffff;chunk-signature=\r\n"), false)
	f.Add([]byte("-1;chunk-signature=\r\n"), true)
	f.Fuzz(func(t *testing.T, in []byte, trailer bool) {
		out, err := io.ReadAll(newRechunker(bytes.NewReader(in), example, "seed", trailer))
		if err == nil && bytes.Count(out, []byte("signature")) == 0 {
			t.Errorf("%q became %q", in, out)
		}
	})
}
