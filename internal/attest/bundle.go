package attest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const bundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// pae is DSSE's pre-authentication encoding: what is signed.
func pae(payloadType string, payload []byte) []byte {
	out := make([]byte, 0, len(payload)+len(payloadType)+40)
	out = append(out, "DSSEv1 "...)
	out = strconv.AppendInt(out, int64(len(payloadType)), 10)
	out = append(out, ' ')
	out = append(out, payloadType...)
	out = append(out, ' ')
	out = strconv.AppendInt(out, int64(len(payload)), 10)
	out = append(out, ' ')
	return append(out, payload...)
}

// LogKey names a log and the key that signs its checkpoints.
type LogKey struct {
	Origin string
	Public crypto.PublicKey // Ed25519
}

// id is the log id of bundles and trusted roots: SHA-256 over origin, newline,
// algorithm and key, whose first four bytes are the hint of signature lines
// (C2SP signed-note).
func (k LogKey) id() ([]byte, error) {
	pub, ok := k.Public.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the key of log %s is a %T, not Ed25519", k.Origin, k.Public)
	}
	const algEd25519 = 1
	h := sha256.New()
	h.Write([]byte(k.Origin))
	h.Write([]byte{'\n', algEd25519})
	h.Write(pub)
	return h.Sum(nil), nil
}

// hashedRekord is a Rekor v2 entry of kind hashedrekord 0.0.2. Its fields stand
// in the order of RFC 8785, so that encoding/json writes the canonical form.
type hashedRekord struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		V002 struct {
			Data struct {
				Algorithm string `json:"algorithm"`
				Digest    []byte `json:"digest"`
			} `json:"data"`
			Signature struct {
				Content  []byte `json:"content"`
				Verifier struct {
					KeyDetails      string `json:"keyDetails"`
					X509Certificate struct {
						RawBytes []byte `json:"rawBytes"`
					} `json:"x509Certificate"`
				} `json:"verifier"`
			} `json:"signature"`
		} `json:"hashedRekordV002"`
	} `json:"spec"`
}

const (
	rekordVersion = "0.0.2"
	rekordKind    = "hashedrekord"
)

// logEntry returns the log entry of a signature: canonical JSON of the digest of
// what was signed, the signature and the certificate. About 2 KB.
func logEntry(digest [sha256.Size]byte, signature []byte, leaf *x509.Certificate) ([]byte, error) {
	var e hashedRekord
	e.APIVersion, e.Kind = rekordVersion, rekordKind
	e.Spec.V002.Data.Algorithm = "SHA2_256"
	e.Spec.V002.Data.Digest = digest[:]
	e.Spec.V002.Signature.Content = signature
	e.Spec.V002.Signature.Verifier.KeyDetails = "PKIX_ECDSA_P256_SHA_256"
	e.Spec.V002.Signature.Verifier.X509Certificate.RawBytes = leaf.Raw
	return marshal(e)
}

// signedParts is all that a bundle is made of.
type signedParts struct {
	statement  []byte
	signature  []byte
	leaf       *x509.Certificate
	timestamp  []byte
	logID      []byte
	entry      []byte
	index      int64
	hashes     [][]byte
	checkpoint []byte
}

// bundle packs the parts as a Sigstore bundle v0.3 in JSON.
func (p signedParts) bundle() ([]byte, error) {
	size, root, err := parseHead(p.checkpoint)
	if err != nil {
		return nil, err
	}
	return marshalProto(&protobundle.Bundle{
		MediaType: bundleMediaType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: p.leaf.Raw}},
			TlogEntries: []*protorekor.TransparencyLogEntry{{
				LogIndex:    p.index,
				LogId:       &protocommon.LogId{KeyId: p.logID},
				KindVersion: &protorekor.KindVersion{Kind: rekordKind, Version: rekordVersion},
				InclusionProof: &protorekor.InclusionProof{
					LogIndex:   p.index,
					RootHash:   root,
					TreeSize:   size,
					Hashes:     p.hashes,
					Checkpoint: &protorekor.Checkpoint{Envelope: string(p.checkpoint)},
				},
				CanonicalizedBody: p.entry,
			}},
			TimestampVerificationData: &protobundle.TimestampVerificationData{
				Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: p.timestamp}},
			},
		},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload:     p.statement,
			PayloadType: payloadType,
			Signatures:  []*protodsse.Signature{{Sig: p.signature}},
		}},
	})
}

// parseHead returns what a checkpoint of our own log says: size and root hash.
func parseHead(checkpoint []byte) (size int64, root []byte, err error) {
	lines := strings.SplitN(string(checkpoint), "\n", 4)
	if len(lines) < 4 {
		return 0, nil, errors.New("malformed checkpoint")
	}
	if size, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return 0, nil, fmt.Errorf("malformed checkpoint: %w", err)
	}
	if root, err = base64.StdEncoding.DecodeString(lines[2]); err != nil {
		return 0, nil, fmt.Errorf("malformed checkpoint: %w", err)
	}
	return size, root, nil
}

// marshalProto writes a message in protobuf's JSON form. protojson adds white
// space at random, which is taken out: equal messages get equal bytes.
func marshalProto(m proto.Message) ([]byte, error) {
	loose, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	return marshal(json.RawMessage(loose))
}
