package attest_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
	"github.com/sallyport-ci/sallyport/internal/attest/verify"
	"github.com/sallyport-ci/sallyport/internal/kms"
	"github.com/sallyport-ci/sallyport/internal/tlog"
)

const testInstance = attest.Instance("sallyport.localhost")

func TestMain(m *testing.M) {
	tlog.RouteLibraryLog(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// house is a real installation's signing side: keys, authority and log on disk.
type house struct {
	keys      *kms.File
	authority *attest.Authority
	notary    *attest.Notary
	log       *tlog.Signatures
	logKey    attest.LogKey
	root      []byte
	verifier  *verify.Verifier
}

func newHouse(t testing.TB) *house {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	h := &house{}
	var err error
	if h.keys, err = kms.OpenFile(filepath.Join(dir, "keys")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.keys.Close() })
	if err := h.keys.Create(ctx); err != nil {
		t.Fatal(err)
	}
	if h.authority, err = attest.NewAuthority(ctx, attest.AuthorityConfig{KMS: h.keys, Instance: testInstance, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	signer, err := h.keys.Signer(ctx, sallyport.KeySigLog)
	if err != nil {
		t.Fatal(err)
	}
	h.log, err = tlog.OpenSignatures(ctx, tlog.Config{Dir: filepath.Join(dir, "log"), Origin: testInstance.SignatureOrigin(), Signer: signer, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.log.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	h.logKey = attest.LogKey{Origin: testInstance.SignatureOrigin(), Public: signer.Public()}
	if h.notary, err = attest.NewNotary(h.authority, h.log, h.logKey); err != nil {
		t.Fatal(err)
	}
	if h.root, err = h.authority.TrustedRoot(h.logKey); err != nil {
		t.Fatal(err)
	}
	if h.verifier, err = verify.New(h.root); err != nil {
		t.Fatal(err)
	}
	return h
}

var artifact = []byte("an artifact\n")

const (
	commit   = "0123456789abcdef0123456789abcdef01234567"
	workflow = ".github/workflows/ci.yml"
	ref      = "refs/heads/main"
)

func buildIdentity() attest.Identity {
	return attest.Identity{
		SAN:               testInstance.BuildIdentity("widget", workflow, ref),
		BuildSigner:       testInstance.BuilderID("standard"),
		RunnerEnvironment: "self-hosted",
		SourceRepository:  testInstance.Repository("widget"),
		SourceDigest:      commit,
		SourceRef:         ref,
		BuildConfig:       testInstance.BuildIdentity("widget", workflow, ref),
		BuildConfigDigest: commit,
		Trigger:           "push",
		RunInvocation:     testInstance.Run("0190-run"),
	}
}

func gateIdentity() attest.Identity { return attest.Identity{SAN: testInstance.GateIdentity()} }

func provenanceInput() attest.ProvenanceInput {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return attest.ProvenanceInput{
		Builder: testInstance.BuilderID("standard"),
		External: attest.ExternalParameters{
			Workflow: attest.WorkflowSource{Repository: testInstance.Repository("widget"), Ref: ref, Path: workflow, Digest: attest.SHA256(sallyport.DigestOf([]byte("workflow")))},
			Event:    "push",
			Payload:  attest.SHA256(sallyport.DigestOf([]byte("{}"))),
			Inputs:   json.RawMessage(`{"greeting":"a < b & c"}`),
			Job:      "build",
			Matrix:   json.RawMessage(`{"go":"1.26"}`),
		},
		Internal: attest.InternalParameters{
			Plan:      attest.SHA256(sallyport.DigestOf([]byte("plan"))),
			Tier:      sallyport.TierProtected,
			Runner:    "embedded",
			Attempt:   1,
			Isolation: sallyport.Isolation{Level: "standard", Runtime: "runc 1.5.2", Network: "none", Enforced: []string{"userns"}},
		},
		Dependencies: []attest.Resource{{Name: "source", URI: "git+" + testInstance.Repository("widget") + "@" + ref, Digest: attest.GitCommit(commit)}},
		Invocation:   testInstance.Job("0190-run", "0190-job"),
		Started:      start,
		Finished:     start.Add(time.Minute),
		Byproducts:   []attest.Resource{{Name: "log", Digest: attest.SHA256(sallyport.DigestOf([]byte("log")))}},
	}
}

func provenance(t testing.TB) []byte {
	t.Helper()
	s, err := attest.Provenance([]attest.Subject{{Name: "artifact", Digest: sallyport.DigestOf(artifact)}}, provenanceInput())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (h *house) sign(t testing.TB, id attest.Identity, statement []byte) []byte {
	t.Helper()
	bundle, _, err := h.notary.Sign(context.Background(), time.Now(), id, statement)
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

func TestSignedStatementVerifies(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for n := range 3 { // later entries have longer proofs
		bundle, index, err := h.notary.Sign(t.Context(), time.Now(), buildIdentity(), provenance(t))
		if err != nil {
			t.Fatal(err)
		}
		checked, err := h.verifier.VerifyFile(strings.NewReader(string(artifact)), bundle, buildIdentity().SAN, testInstance.Issuer())
		if err != nil {
			t.Fatal(err)
		}
		if checked.LogIndex != index || index != int64(n) || checked.PredicateType != sallyport.PredicateProvenance || checked.Identity != buildIdentity().SAN {
			t.Errorf("checked = %+v, index %d; want entry %d", checked, index, n)
		}
		if d := time.Since(checked.SignedAt); d < -time.Second || d > time.Hour {
			t.Errorf("signed at %v", checked.SignedAt)
		}
		var p struct {
			RunDetails struct {
				Builder struct{ ID string }
			}
		}
		if err := json.Unmarshal(checked.Predicate, &p); err != nil || p.RunDetails.Builder.ID != testInstance.BuilderID("standard") {
			t.Errorf("predicate %s: %v", checked.Predicate, err)
		}
	}
}

func TestAuthorityReopens(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	bundle := h.sign(t, buildIdentity(), provenance(t))
	again, err := attest.NewAuthority(t.Context(), attest.AuthorityConfig{KMS: h.keys, Instance: testInstance, Certificates: h.authority.Certificates()})
	if err != nil {
		t.Fatal(err)
	}
	root, err := again.TrustedRoot(h.logKey)
	if err != nil {
		t.Fatal(err)
	}
	if string(root) != string(h.root) {
		t.Error("the trusted root changed by reopening")
	}
	v, err := verify.New(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(bundle, sallyport.DigestOf(artifact), buildIdentity().SAN, testInstance.Issuer()); err != nil {
		t.Error(err)
	}
}

func TestAuthorityRefusesForeignCertificates(t *testing.T) {
	t.Parallel()
	h, other := newHouse(t), newHouse(t)
	certs := string(h.authority.Certificates())
	for name, cfg := range map[string]attest.AuthorityConfig{
		"other keys":    {KMS: other.keys, Instance: testInstance, Certificates: []byte(certs)},
		"other name":    {KMS: h.keys, Instance: "other.localhost", Certificates: []byte(certs)},
		"mixed":         {KMS: h.keys, Instance: testInstance, Certificates: []byte(swapBlock(certs, string(other.authority.Certificates()), 2))},
		"truncated":     {KMS: h.keys, Instance: testInstance, Certificates: []byte(certs[:len(certs)/2])},
		"garbage after": {KMS: h.keys, Instance: testInstance, Certificates: []byte(certs + "x")},
		"empty":         {KMS: h.keys, Instance: testInstance, Certificates: []byte{}},
		"not a host":    {KMS: h.keys, Instance: "Sallyport:80", Certificates: []byte(certs)},
		"no time":       {KMS: h.keys, Instance: testInstance},
	} {
		if _, err := attest.NewAuthority(t.Context(), cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// swapBlock replaces the n-th PEM block of a by that of b.
func swapBlock(a, b string, n int) string {
	const end = "-----END CERTIFICATE-----\n"
	as, bs := strings.SplitAfter(a, end), strings.SplitAfter(b, end)
	as[n] = bs[n]
	return strings.Join(as, "")
}

func TestNotaryRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	subjects := []attest.Subject{{Name: "artifact", Digest: sallyport.DigestOf(artifact)}}
	vsa, err := attest.VSA(subjects, attest.VSAInput{
		Verifier: testInstance.GateIdentity(), At: time.Now(), Resource: testInstance.Run("r"), Passed: true,
		Policy: attest.Resource{URI: "default", Digest: attest.SHA256(sallyport.DigestOf([]byte("policy")))},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.sign(t, gateIdentity(), vsa) // the gate may
	h.sign(t, attest.Identity{SAN: testInstance.CacheIdentity()}, cacheStatement(t))
	job := testInstance.JobIdentity("shop", ".github/workflows/ci.yml", "refs/heads/main")
	words := func(subject attest.Subject, kind string) []byte {
		b, err := attest.Statement([]attest.Subject{subject}, kind, map[string]bool{"ok": true})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain, marked := subjects[0], subjects[0]
	marked.AssertedBy = attest.AssertedByJob
	h.sign(t, attest.Identity{SAN: job}, words(marked, "https://example.com/tested")) // its own word
	with := func(san string) attest.Identity { id := buildIdentity(); id.SAN = san; return id }
	for name, c := range map[string]struct {
		id        attest.Identity
		statement []byte
		want      sallyport.Code
	}{
		"verdict by a build":       {buildIdentity(), vsa, sallyport.CodeDenied},
		"provenance by the gate":   {gateIdentity(), provenance(t), sallyport.CodeDenied},
		"cache entry by a build":   {buildIdentity(), cacheStatement(t), sallyport.CodeDenied},
		"cache entry by the gate":  {gateIdentity(), cacheStatement(t), sallyport.CodeDenied},
		"provenance by the cache":  {with(testInstance.CacheIdentity()), provenance(t), sallyport.CodeDenied},
		"verdict by the cache":     {with(testInstance.CacheIdentity()), vsa, sallyport.CodeDenied},
		"unmarked by a job":        {with(job), words(plain, "https://example.com/tested"), sallyport.CodeDenied},
		"provenance by a job":      {with(job), provenance(t), sallyport.CodeDenied},
		"verdict by a job":         {with(job), vsa, sallyport.CodeDenied},
		"cache entry by a job":     {with(job), cacheStatement(t), sallyport.CodeDenied},
		"a job's word by a build":  {buildIdentity(), words(marked, "https://example.com/tested"), sallyport.CodeDenied},
		"a job's word by the gate": {gateIdentity(), words(marked, "https://example.com/tested"), sallyport.CodeDenied},
		"identity elsewhere":       {with("https://elsewhere/gate"), provenance(t), sallyport.CodeInvalid},
		"identity prefix":          {with(testInstance.Issuer() + ".evil/x"), provenance(t), sallyport.CodeInvalid},
		"identity not a URL":       {with(testInstance.Issuer() + "/%zz"), provenance(t), sallyport.CodeInvalid},
		"no identity":              {attest.Identity{}, provenance(t), sallyport.CodeInvalid},
		"claim too long":           {attest.Identity{SAN: buildIdentity().SAN, Trigger: strings.Repeat("x", 1<<16)}, provenance(t), sallyport.CodeInvalid},
		"not JSON":                 {buildIdentity(), []byte("x"), sallyport.CodeInvalid},
		"not a statement":          {buildIdentity(), []byte("{}"), sallyport.CodeInvalid},
		"two statements":           {buildIdentity(), append(provenance(t), provenance(t)...), sallyport.CodeInvalid},
		"no subject":               {buildIdentity(), []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"x","predicate":{}}`), sallyport.CodeInvalid},
		"subject without digest":   {buildIdentity(), []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"x"}],"predicateType":"x","predicate":{}}`), sallyport.CodeInvalid},
		"too large":                {buildIdentity(), make([]byte, attest.MaxStatement+1), sallyport.CodeInvalid},
		"own type without schema":  {buildIdentity(), []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"00"}}],"predicateType":"` + sallyport.PredicatePush + `","predicate":{}}`), sallyport.CodeInvalid},
	} {
		if _, _, err := h.notary.Sign(t.Context(), time.Now(), c.id, c.statement); sallyport.ErrorCode(err) != c.want {
			t.Errorf("%s: %v (code %q), want code %q", name, err, sallyport.ErrorCode(err), c.want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	i := testInstance
	for _, c := range []struct{ got, want string }{
		{i.BuildIdentity("acme", workflow, ref), "https://sallyport.localhost/acme/.github/workflows/ci.yml@refs/heads/main"},
		{i.BuildIdentity("acme", "a@b.yml", "refs/heads/x#1?é@y"), "https://sallyport.localhost/acme/a%40b.yml@refs/heads/x%231%3F%C3%A9%40y"},
		{i.BuilderID("standard"), "https://sallyport.localhost/builders/standard/v1"},
		{i.GateIdentity(), "https://sallyport.localhost/gate"},
		{i.CacheIdentity(), "https://sallyport.localhost/caches"},
		{i.Cache("c"), "https://sallyport.localhost/caches/c"},
		{i.SignatureOrigin(), "log.sallyport.localhost"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	for _, bad := range []string{"", "a:80", "A", "a/b", "-a", "a-", "a..b", ".a", strings.Repeat("a", 64), strings.Repeat("a.", 101) + "a"} {
		if _, err := attest.ParseInstance(bad); err == nil {
			t.Errorf("ParseInstance(%q) passed", bad)
		}
	}
}

// strange names still give identities that verify, and that are told apart.
func TestStrangeRefVerifies(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := buildIdentity()
	id.SAN = testInstance.BuildIdentity("widget", ".github/workflows/a b%2f.yml", "refs/heads/é#?@main")
	bundle := h.sign(t, id, provenance(t))
	if _, err := h.verifier.Verify(bundle, sallyport.DigestOf(artifact), id.SAN, testInstance.Issuer()); err != nil {
		t.Error(err)
	}
}
