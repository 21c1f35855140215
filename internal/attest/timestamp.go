package attest

import (
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/digitorus/timestamp"
)

// anyPolicy says that the timestamp is given under no particular policy.
var anyPolicy = asn1.ObjectIdentifier{2, 5, 29, 32, 0}

// timestamp returns an RFC 3161 response (DER) over data: the whole response,
// without the certificate, which verifiers have in the trusted root. Its time
// is now, cut to seconds.
func (a *Authority) timestamp(data []byte, now time.Time) ([]byte, error) {
	sum := sha256.Sum256(data)
	stamp := timestamp.Timestamp{
		HashAlgorithm: crypto.SHA256,
		HashedMessage: sum[:],
		Time:          now.UTC().Truncate(time.Second),
		Accuracy:      time.Second,
		Policy:        anyPolicy,
	}
	der, err := stamp.CreateResponseWithOpts(a.certs.tsa, a.tsa, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("timestamp signature: %w", err)
	}
	return der, nil
}
