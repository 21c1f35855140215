package sallyport

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
)

// Digest names content: "sha256:" and 64 lower-case hex digits (OCI image
// specification, descriptor digests). The zero value names nothing.
type Digest string

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// DigestReader reads r to its end and returns its digest and length.
func DigestReader(r io.Reader) (Digest, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return "", n, err
	}
	return Digest("sha256:" + hex.EncodeToString(h.Sum(nil))), n, nil
}

// ParseDigest checks s and returns it as a Digest.
func ParseDigest(s string) (Digest, error) {
	hexpart, ok := strings.CutPrefix(s, "sha256:")
	if !ok || len(hexpart) != 64 || strings.Trim(hexpart, "0123456789abcdef") != "" {
		return "", Errorf(CodeInvalid, "%.80q is not a digest", s).WithHint("write sha256: and 64 lower-case hex digits")
	}
	return Digest(s), nil
}

// Hex returns the digits without the algorithm, "" for the zero value.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), "sha256:") }

// Short returns the first twelve digits, for people.
func (d Digest) Short() string {
	h := d.Hex()
	return h[:min(12, len(h))]
}

func (d Digest) String() string { return string(d) }
