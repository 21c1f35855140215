package broker

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// signer makes AWS Signature Version 4, as "Signature Version 4 signing process" of AWS's
// General Reference and "Authenticating Requests" of S3's API reference have it.
type signer struct {
	id              string
	key             []byte
	region, service string
	at              time.Time
}

const (
	amzTime   = "20060102T150405Z"
	amzDay    = "20060102"
	emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// sign sets X-Amz-Date and Authorization, and returns the signature, from which those of chunks go on.
func (s signer) sign(r *http.Request, payload string) string {
	r.Header.Set("X-Amz-Date", s.at.Format(amzTime))
	names, headers := s.headers(r)
	request := strings.Join([]string{r.Method, s.path(r.URL), canonicalQuery(r.URL.Query()), headers, names, payload}, "\n")
	signature := s.hmac("AWS4-HMAC-SHA256", hexSum([]byte(request)))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+s.id+"/"+s.scope()+",SignedHeaders="+names+",Signature="+signature)
	return signature
}

// headers returns the names that are signed and their canonical lines.
func (s signer) headers(r *http.Request) (names, lines string) {
	signed := map[string]string{"host": r.Host}
	for name, values := range r.Header {
		n := strings.ToLower(name)
		// Others may be changed by what stands between.
		if strings.HasPrefix(n, "x-amz-") || slices.Contains([]string{"content-type", "content-md5", "content-encoding", "range"}, n) {
			trimmed := make([]string, len(values))
			for i, v := range values {
				trimmed[i] = strings.Join(strings.Fields(v), " ")
			}
			signed[n] = strings.Join(trimmed, ",")
		}
	}
	var list []string
	for n := range signed {
		list = append(list, n)
	}
	slices.Sort(list)
	var b strings.Builder
	for _, n := range list {
		b.WriteString(n + ":" + signed[n] + "\n")
	}
	return strings.Join(list, ";"), b.String()
}

// path is the canonical URI: escaped once for S3, twice for all others.
func (s signer) path(u *url.URL) string {
	p := u.EscapedPath()
	if plain, err := url.PathUnescape(p); err == nil {
		p = percent(plain, true)
	}
	if p == "" {
		p = "/"
	}
	if s.service != "s3" {
		p = percent(p, true)
	}
	return p
}

// canonicalQuery sorts and escapes a query as the signature wants it; it is also sent so.
func canonicalQuery(q url.Values) string {
	var list []string
	for name, values := range q {
		for _, v := range values {
			list = append(list, percent(name, false)+"="+percent(v, false))
		}
	}
	slices.Sort(list)
	return strings.Join(list, "&")
}

// percent escapes all but RFC 3986's unreserved characters, and slashes if told.
func percent(s string, slash bool) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 || slash && c == '/' {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

func (s signer) scope() string {
	return s.at.Format(amzDay) + "/" + s.region + "/" + s.service + "/aws4_request"
}

// hmac signs lines under an algorithm's name with the day's key.
func (s signer) hmac(algorithm string, lines ...string) string {
	key := append([]byte("AWS4"), s.key...)
	for _, part := range []string{s.at.Format(amzDay), s.region, s.service, "aws4_request"} {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, strings.Join(append([]string{algorithm, s.at.Format(amzTime), s.scope()}, lines...), "\n")))
}

// chunk signs a chunk of a body after another.
func (s signer) chunk(previous string, data []byte) string {
	return s.hmac("AWS4-HMAC-SHA256-PAYLOAD", previous, emptyHash, hexSum(data))
}

// trailer signs the trailing headers after the last chunk.
func (s signer) trailer(previous string, lines []byte) string {
	return s.hmac("AWS4-HMAC-SHA256-TRAILER", previous, hexSum(lines))
}

func mac(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s)) // a hash does not fail
	return h.Sum(nil)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
