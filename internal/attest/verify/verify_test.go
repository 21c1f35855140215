package verify_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest/verify"
)

// The golden bundle was made once and must verify for ever, long after its
// certificate expired.
const (
	goldenIdentity = "https://sallyport.localhost/widget/.github/workflows/ci.yml@refs/heads/main"
	goldenIssuer   = "https://sallyport.localhost"
)

func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func goldenVerifier(t testing.TB) *verify.Verifier {
	t.Helper()
	v, err := verify.New(golden(t, "trusted_root.json"))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestGoldenBundle(t *testing.T) {
	t.Parallel()
	checked, err := goldenVerifier(t).VerifyFile(bytes.NewReader(golden(t, "artifact")), golden(t, "provenance.sigstore.json"), goldenIdentity, goldenIssuer)
	if err != nil {
		t.Fatal(err)
	}
	if checked.LogIndex != 2 || checked.PredicateType != sallyport.PredicateProvenance || checked.Issuer != goldenIssuer || checked.SignedAt.Location() != time.UTC {
		t.Errorf("checked = %+v", checked)
	}
}

// TestRefusals wants each refusal to say which check failed.
func TestRefusals(t *testing.T) {
	t.Parallel()
	v, bundle, subject := goldenVerifier(t), golden(t, "provenance.sigstore.json"), sallyport.DigestOf(golden(t, "artifact"))
	replace := func(old, new string) []byte {
		t.Helper()
		out := strings.Replace(string(bundle), old, new, 1)
		if out == string(bundle) {
			t.Fatalf("the bundle has no %q", old)
		}
		return []byte(out)
	}
	for name, c := range map[string]struct {
		bundle           []byte
		subject          sallyport.Digest
		identity, issuer string
		code             sallyport.Code
		says             string
	}{
		"other file":            {bundle, sallyport.DigestOf(nil), goldenIdentity, goldenIssuer, sallyport.CodeDenied, "subject: "},
		"other identity":        {bundle, subject, goldenIssuer + "/gate", goldenIssuer, sallyport.CodeDenied, "identity: "},
		"identity as a pattern": {bundle, subject, "https://sallyport.localhost/.*", goldenIssuer, sallyport.CodeDenied, "identity: "},
		"identity prefix":       {bundle, subject, goldenIdentity[:len(goldenIdentity)-1], goldenIssuer, sallyport.CodeDenied, "identity: "},
		"other issuer":          {bundle, subject, goldenIdentity, goldenIssuer + "/", sallyport.CodeDenied, "issuer: "},
		"no identity":           {bundle, subject, "", goldenIssuer, sallyport.CodeInvalid, "identity"},
		"no issuer":             {bundle, subject, goldenIdentity, "", sallyport.CodeInvalid, "issuer"},
		"no digest":             {bundle, "", goldenIdentity, goldenIssuer, sallyport.CodeInvalid, "digest"},
		"empty":                 {nil, subject, goldenIdentity, goldenIssuer, sallyport.CodeInvalid, "not a Sigstore bundle"},
		"an object":             {[]byte("{}"), subject, goldenIdentity, goldenIssuer, sallyport.CodeInvalid, "not a Sigstore bundle"},
		"deep":                  {bytes.Repeat([]byte("["), 1<<20), subject, goldenIdentity, goldenIssuer, sallyport.CodeInvalid, "not a Sigstore bundle"},
		"too large":             {make([]byte, verify.MaxBundle+1), subject, goldenIdentity, goldenIssuer, sallyport.CodeInvalid, "too large"},
		"unknown field":         {replace(`{"mediaType"`, `{"x":1,"mediaType"`), subject, goldenIdentity, goldenIssuer, sallyport.CodeInvalid, "not a Sigstore bundle"},
		"field twice":           {replace(`{"mediaType"`, `{"mediaType":"x","mediaType"`), subject, goldenIdentity, goldenIssuer, sallyport.CodeInvalid, "not a Sigstore bundle"},
		"other version":         {replace("bundle.v0.3", "bundle.v0.4"), subject, goldenIdentity, goldenIssuer, sallyport.CodeInvalid, "bundle"},
		"other tree size":       {replace(`"treeSize":"3"`, `"treeSize":"4"`), subject, goldenIdentity, goldenIssuer, sallyport.CodeDenied, "transparency log: "},
		"other signature":       {replace(`"sig":"MEUC`, `"sig":"MEQC`), subject, goldenIdentity, goldenIssuer, sallyport.CodeDenied, "transparency log: "},
	} {
		_, err := v.Verify(c.bundle, c.subject, c.identity, c.issuer)
		if message, _ := sallyport.ErrorMessage(err); sallyport.ErrorCode(err) != c.code || !strings.Contains(message, c.says) {
			t.Errorf("%s: %v (code %q); want code %q and %q", name, err, sallyport.ErrorCode(err), c.code, c.says)
		}
	}
}

// TestTrustedRoot takes away or replaces each part of the trusted root: what it
// vouched for must then be refused.
func TestTrustedRoot(t *testing.T) {
	t.Parallel()
	bundle, subject := golden(t, "provenance.sigstore.json"), sallyport.DigestOf(golden(t, "artifact"))
	for name, c := range map[string]struct{ old, new, says string }{
		"log elsewhere":        {`"baseUrl":"https://log.`, `"baseUrl":"https://evil.`, "transparency log: "},
		"no log":               {`"tlogs"`, `"ctlogs"`, ""},
		"no certificate log":   {`"ctlogs"`, `"tlogs"`, ""},
		"authority of the TSA": {`"certificateAuthorities"`, `"timestampAuthorities"`, ""},
		"not yet valid":        {`"validFor":{"start":"2026`, `"validFor":{"start":"2099`, ""},
		"no JSON":              {`{"mediaType"`, `"mediaType"`, ""},
	} {
		root := golden(t, "trusted_root.json")
		if c.says == "" {
			root = bytes.ReplaceAll(root, []byte(c.old), []byte(c.new))
		} else {
			root = bytes.Replace(root, []byte(c.old), []byte(c.new), 1)
		}
		if bytes.Equal(root, golden(t, "trusted_root.json")) {
			t.Fatalf("%s: the root has no %q", name, c.old)
		}
		v, err := verify.New(root)
		if err != nil {
			continue // refused at once
		}
		_, err = v.Verify(bundle, subject, goldenIdentity, goldenIssuer)
		if message, _ := sallyport.ErrorMessage(err); sallyport.ErrorCode(err) != sallyport.CodeDenied || !strings.Contains(message, c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := verify.New(make([]byte, verify.MaxTrustedRoot+1)); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("too large a root: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	v, bundle, subject := goldenVerifier(f), golden(f, "provenance.sigstore.json"), sallyport.DigestOf(golden(f, "artifact"))
	f.Add(bundle)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"certificate":{},"tlogEntries":[{"inclusionProof":{}}]},"dsseEnvelope":{}}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":null,"messageSignature":{}}`))
	want, err := v.Verify(bundle, subject, goldenIdentity, goldenIssuer)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := v.Verify(b, subject, goldenIdentity, goldenIssuer)
		if err != nil {
			if c := sallyport.ErrorCode(err); c != sallyport.CodeInvalid && c != sallyport.CodeDenied {
				t.Errorf("code %q: %v", c, err)
			}
			return
		}
		if !bytes.Equal(got.Predicate, want.Predicate) || got.LogIndex != want.LogIndex || !got.SignedAt.Equal(want.SignedAt) {
			t.Errorf("verified as something else: %+v", got)
		}
	})
}

func FuzzTrustedRoot(f *testing.F) {
	f.Add(golden(f, "trusted_root.json"))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[{}],"certificateAuthorities":[{}],"ctlogs":[{}],"timestampAuthorities":[{}]}`))
	bundle, subject := golden(f, "provenance.sigstore.json"), sallyport.DigestOf(golden(f, "artifact"))
	f.Fuzz(func(t *testing.T, root []byte) {
		if v, err := verify.New(root); err == nil {
			_, _ = v.Verify(bundle, subject, goldenIdentity, goldenIssuer)
		} else if sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Error(err)
		}
	})
}
