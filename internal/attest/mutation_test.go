package attest_test

import (
	"bytes"
	"encoding/json"
	"testing"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport"
)

func parseBundle(t testing.TB, b []byte) *protobundle.Bundle {
	t.Helper()
	var out protobundle.Bundle
	if err := protojson.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

func encodeBundle(t testing.TB, b *protobundle.Bundle) []byte {
	t.Helper()
	out, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tamperPayload changes the predicate and nothing else.
func tamperPayload(t testing.TB, bundle []byte) []byte {
	t.Helper()
	b := parseBundle(t, bundle)
	e := b.GetDsseEnvelope()
	changed := bytes.Replace(e.Payload, []byte("runc 1.5.2"), []byte("runc 1.5.3"), 1)
	if bytes.Equal(changed, e.Payload) {
		t.Fatal("nothing to tamper with")
	}
	e.Payload = changed
	return encodeBundle(t, b)
}

// TestFlippedByteRefused flips every byte of everything in a bundle that means
// something.
func TestFlippedByteRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for range 6 { // a proof with several hashes
		h.sign(t, buildIdentity(), provenance(t))
	}
	original := parseBundle(t, h.sign(t, buildIdentity(), provenance(t)))
	h.sign(t, buildIdentity(), provenance(t))

	refused := func(t *testing.T, b *protobundle.Bundle, what string, n int) {
		t.Helper()
		_, err := h.verifier.Verify(encodeBundle(t, b), sallyport.DigestOf(artifact), buildIdentity().SAN, testInstance.Issuer())
		if c := sallyport.ErrorCode(err); c != sallyport.CodeDenied && c != sallyport.CodeInvalid {
			t.Errorf("%s, byte %d flipped: %v", what, n, err)
		}
	}
	for name, field := range map[string]func(*protobundle.Bundle) []byte{
		"payload":     func(b *protobundle.Bundle) []byte { return b.GetDsseEnvelope().Payload },
		"signature":   func(b *protobundle.Bundle) []byte { return b.GetDsseEnvelope().Signatures[0].Sig },
		"certificate": func(b *protobundle.Bundle) []byte { return b.VerificationMaterial.GetCertificate().RawBytes },
		"timestamp": func(b *protobundle.Bundle) []byte {
			return b.VerificationMaterial.TimestampVerificationData.Rfc3161Timestamps[0].SignedTimestamp
		},
		"log id": func(b *protobundle.Bundle) []byte { return b.VerificationMaterial.TlogEntries[0].LogId.KeyId },
		"body":   func(b *protobundle.Bundle) []byte { return b.VerificationMaterial.TlogEntries[0].CanonicalizedBody },
		"root": func(b *protobundle.Bundle) []byte {
			return b.VerificationMaterial.TlogEntries[0].InclusionProof.RootHash
		},
		"proof": func(b *protobundle.Bundle) []byte {
			return b.VerificationMaterial.TlogEntries[0].InclusionProof.Hashes[0]
		},
		"proof end": func(b *protobundle.Bundle) []byte {
			hashes := b.VerificationMaterial.TlogEntries[0].InclusionProof.Hashes
			return hashes[len(hashes)-1]
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bits := []byte{0x01}
			if name == "timestamp" { // whose lengths may grow or shrink
				bits = append(bits, 0x02, 0x80)
			}
			for n := range field(original) {
				for _, bit := range bits {
					b := proto.Clone(original).(*protobundle.Bundle)
					field(b)[n] ^= bit
					refused(t, b, name, n)
				}
			}
		})
	}
	t.Run("checkpoint", func(t *testing.T) {
		t.Parallel()
		text := original.VerificationMaterial.TlogEntries[0].InclusionProof.Checkpoint.Envelope
		for n := range len(text) {
			if text[n] >= 0x80 { // keep it UTF-8, which protobuf demands
				continue
			}
			b := proto.Clone(original).(*protobundle.Bundle)
			b.VerificationMaterial.TlogEntries[0].InclusionProof.Checkpoint.Envelope = text[:n] + string(text[n]^0x01) + text[n+1:]
			refused(t, b, "checkpoint", n)
		}
	})
	for name, change := range map[string]func(*protobundle.Bundle){
		"media type":   func(b *protobundle.Bundle) { b.MediaType = "application/vnd.dev.sigstore.bundle+json;version=0.2" },
		"payload type": func(b *protobundle.Bundle) { b.GetDsseEnvelope().PayloadType += "x" },
		"second signer": func(b *protobundle.Bundle) {
			e := b.GetDsseEnvelope()
			e.Signatures = append(e.Signatures, e.Signatures[0])
		},
		"no log entry": func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries = nil },
		"two log entries": func(b *protobundle.Bundle) {
			m := b.VerificationMaterial
			m.TlogEntries = append(m.TlogEntries, m.TlogEntries[0])
		},
		"no timestamp":    func(b *protobundle.Bundle) { b.VerificationMaterial.TimestampVerificationData = nil },
		"no proof":        func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].InclusionProof = nil },
		"index":           func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].LogIndex++ },
		"negative index":  func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].LogIndex = -1 },
		"inner index":     func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].InclusionProof.LogIndex++ },
		"tree size":       func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].InclusionProof.TreeSize++ },
		"kind":            func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].KindVersion.Kind = "dsse" },
		"kind version":    func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].KindVersion.Version = "0.0.1" },
		"integrated time": func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].IntegratedTime = 1 },
		"shorter proof": func(b *protobundle.Bundle) {
			p := b.VerificationMaterial.TlogEntries[0].InclusionProof
			p.Hashes = p.Hashes[1:]
		},
	} {
		b := proto.Clone(original).(*protobundle.Bundle)
		change(b)
		refused(t, b, name, -1)
	}
}

func TestBundleIsDeterministicJSON(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	b := h.sign(t, buildIdentity(), provenance(t))
	var compact bytes.Buffer
	if err := json.Compact(&compact, b); err != nil || !bytes.Equal(compact.Bytes(), b) {
		t.Errorf("the bundle is not compact JSON: %v", err)
	}
	if len(b) > 10<<10 {
		t.Errorf("a provenance bundle of %d bytes", len(b))
	}
}
