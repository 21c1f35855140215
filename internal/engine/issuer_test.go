package engine

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/issuer"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

// federation is an installation whose issuer is served over HTTP, and a job with a lease.
type federation struct {
	*house
	url   string
	lease *sallyport.Lease
	kms   *sallyporttest.KMS
}

const federated = "on: push\npermissions: {id-token: write}\njobs:\n  build: {runs-on: ubuntu-latest, steps: [{run: make}]}\n  other: {runs-on: ubuntu-latest, steps: [{run: make}]}\n"

func newFederation(t *testing.T) *federation {
	t.Helper()
	f := &federation{kms: sallyporttest.NewKMS()}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		url, keys, err := f.s.Instance.TokenIssuer(f.admin)
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case r.URL.Path == sallyport.DiscoveryPath:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(sallyport.DiscoveryDocument(url))
		case r.URL.Path == sallyport.KeySetPath:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(keys)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	f.url = srv.URL
	f.house = newHouse(t, func(c *Config) {
		c.Tokens, c.Issuer, c.LeaseTTL = issuer.New(f.kms), srv.URL+"/", 10000*time.Hour
	})
	plan := compiled(t, federated)
	plan.Rules = &sallyport.PlanRules{Audiences: sallyport.Audiences{{Name: "bank"}, {Name: "quick", Algorithm: sallyport.ES256}, {Name: "sts.amazonaws.com"}}}
	f.begin(plan)
	f.lease = f.house.lease()
	return f
}

func (f *federation) mint(audience string) string {
	f.t.Helper()
	token, err := f.y.IDToken(f.runner, f.lease.Ref, audience)
	check(f.t, err)
	return token
}

// verify checks a token as an independent relying party does, by discovery.
func (f *federation) verify(token, audience string, now time.Time) error {
	f.t.Helper()
	p, err := oidc.NewProvider(f.t.Context(), f.url)
	check(f.t, err)
	_, err = p.Verifier(&oidc.Config{ClientID: audience, Now: func() time.Time { return now }}).Verify(f.t.Context(), token)
	return err
}

func algorithmOf(t *testing.T, token string) string {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(head)
	check(t, err)
	var h struct{ Alg, Typ, Kid string }
	check(t, json.Unmarshal(b, &h))
	if h.Typ != "JWT" || h.Kid == "" {
		t.Errorf("header %s", b)
	}
	return h.Alg
}

// TestRelyingParty has an independent client of OpenID Connect judge tokens, and those that
// an attacker would like it to take.
func TestRelyingParty(t *testing.T) {
	t.Parallel()
	f := newFederation(t)
	now := f.clock()
	for audience, want := range map[string]string{"bank": sallyport.RS256, "quick": sallyport.ES256} {
		token := f.mint(audience)
		if got := algorithmOf(t, token); got != want {
			t.Errorf("%s: signed by %s, want %s", audience, got, want)
		}
		if err := f.verify(token, audience, now); err != nil {
			t.Errorf("%s: %v", audience, err)
		}
	}
	aws := claimsOf(t, f.mint("sts.amazonaws.com"))
	if tags, ok := aws[awsTags].(map[string]any); !ok || tags["principal_tags"] == nil {
		t.Errorf("no session tags in %v", aws)
	}
	for key := range aws {
		if !slices.Contains(sallyport.IDTokenClaims(), key) {
			t.Errorf("the claim %s is not in the discovery document", key)
		}
	}
	token := f.mint("bank")
	if claimsOf(t, token)[awsTags] != nil {
		t.Error("session tags for somebody else")
	}
	parts := strings.Split(token, ".")
	header := func(h string) string { return base64.RawURLEncoding.EncodeToString([]byte(h)) }
	_, set, err := f.s.Instance.TokenIssuer(f.admin)
	check(t, err)
	var keys jose.JSONWebKeySet
	check(t, json.Unmarshal(set, &keys))
	confused := func(secret []byte) string {
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: secret}, (&jose.SignerOptions{}).WithHeader("kid", keys.Keys[0].KeyID))
		check(t, err)
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		check(t, err)
		signed, err := s.Sign(payload)
		check(t, err)
		compact, err := signed.CompactSerialize()
		check(t, err)
		return compact
	}
	der, err := x509.MarshalPKIXPublicKey(keys.Keys[0].Key)
	check(t, err)
	raw, err := json.Marshal(keys.Keys[0])
	check(t, err)
	if strings.Contains(string(set), `"d"`) || strings.Contains(string(set), `"p"`) {
		t.Fatalf("private parts are published: %s", set)
	}
	stranger := issuer.New(sallyporttest.NewKMS())
	_, err = stranger.Make(t.Context(), "tokens-x", sallyport.RS256)
	check(t, err)
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	check(t, err)
	forged, err := stranger.Sign(t.Context(), sallyport.IssuerKey{ID: "tokens-x", Kid: keys.Keys[0].KeyID, Algorithm: sallyport.RS256}, payload)
	check(t, err)
	for name, c := range map[string]struct {
		token, audience string
		at              time.Time
	}{
		"good, as the control":         {token, "bank", now},
		"expired":                      {token, "bank", now.Add(sallyport.IDTokenLife + time.Second)},
		"before its time":              {token, "bank", now.Add(-10 * time.Minute)},
		"other audience":               {token, "quick", now},
		"no algorithm":                 {header(`{"alg":"none","typ":"JWT"}`) + "." + parts[1] + ".", "bank", now},
		"no signature":                 {parts[0] + "." + parts[1] + ".", "bank", now},
		"key confusion, PEM":           {confused(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "bank", now},
		"key confusion, DER":           {confused(der), "bank", now},
		"key confusion, JWK":           {confused(raw), "bank", now},
		"a stranger's key of our name": {forged, "bank", now},
		"another's claims":             {parts[0] + "." + strings.Split(f.mint("quick"), ".")[1] + "." + parts[2], "quick", now},
		"oversized":                    {parts[0] + "." + parts[1] + strings.Repeat("A", 1<<20) + "." + parts[2], "bank", now},
	} {
		err := f.verify(c.token, c.audience, c.at)
		if good := strings.HasPrefix(name, "good"); good != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestIDTokenOfAnotherJob uses what one job has as another, and after its end.
func TestIDTokenOfAnotherJob(t *testing.T) {
	t.Parallel()
	f := newFederation(t)
	other := f.house.lease()
	if _, err := f.y.IDToken(f.runner, other.Ref, "bank"); err != nil { // the control
		t.Fatal(err)
	}
	for name, ref := range map[string]sallyport.LeaseRef{
		"another job's fence": {Job: f.lease.Ref.Job, Token: other.Ref.Token},
		"no fence":            {Job: f.lease.Ref.Job},
		"a job of nobody":     {Job: "01J", Token: f.lease.Ref.Token},
	} {
		if token, err := f.y.IDToken(f.runner, ref, "bank"); err == nil || token != "" {
			t.Errorf("%s: got %q, %v", name, token, err)
		}
	}
	f.finish(f.lease, sallyport.Success, nil)
	if token, err := f.y.IDToken(f.runner, f.lease.Ref, "bank"); err == nil || token != "" {
		t.Errorf("after its end: got %q, %v", token, err)
	}
	list, err := f.s.Issuers.IssuedTokens(f.admin, other.Job.ID)
	if err != nil || len(list) != 1 || list[0].Audience != "bank" || list[0].ID == "" || list[0].Kid == "" || list[0].Refused != "" || !list[0].Expires.Equal(f.clock().Add(sallyport.IDTokenLife)) {
		t.Errorf("recorded %+v, %v", list, err)
	}
	if _, err := f.y.IDToken(f.runner, other.Ref, "casino"); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Error(err)
	}
	if list, err = f.s.Issuers.IssuedTokens(f.admin, other.Job.ID); err != nil || len(list) != 2 || list[0].Refused == "" || list[0].Audience != "casino" {
		t.Errorf("recorded %+v, %v", list, err)
	}
}

// stubborn is a relying party's key set that is fetched again only when it is as old as we
// allow: it does not look whether there is a key that it does not know.
type stubborn struct {
	f       *federation
	fetched time.Time
	keys    jose.JSONWebKeySet
}

func (k *stubborn) VerifySignature(_ context.Context, token string) ([]byte, error) {
	if now := k.f.clock(); now.Sub(k.fetched) >= sallyport.IssuerCache {
		resp, err := http.Get(k.f.url + sallyport.KeySetPath)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return nil, err
		}
		k.fetched = now
		if err := json.Unmarshal(b, &k.keys); err != nil {
			return nil, err
		}
	}
	s, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		return nil, err
	}
	return s.Verify(k.keys)
}

// overlap mints and verifies through a rotation, by parties that fetched the keys at
// different times before it, and returns how many tokens they did not take.
func overlap(t *testing.T, rotate func(f *federation)) (failed int) {
	t.Helper()
	f := newFederation(t)
	const step = 10 * time.Minute
	var parties []*oidc.IDTokenVerifier
	judge := func(token, audience string) {
		for _, p := range parties {
			if _, err := p.Verify(t.Context(), token); err != nil {
				failed++
			}
		}
	}
	var kept []string // the newest, as old as they may be when they are checked
	tick := func() {
		for _, token := range kept {
			judge(token, "bank")
		}
		kept = nil
		f.pass(step - sallyport.IDTokenLife + time.Second)
		token := f.mint("bank")
		judge(token, "bank")
		f.pass(sallyport.IDTokenLife - time.Second)
		kept = append(kept, token)
	}
	for range 6 { // each fetches its keys ten minutes after the one before
		k := &stubborn{f: f}
		v := oidc.NewVerifier(f.url, k, &oidc.Config{ClientID: "bank", Now: f.clock})
		parties = append(parties, v)
		tick()
	}
	before, err := f.s.Issuers.IssuerStatus(f.admin)
	check(t, err)
	rotate(f)
	for range 24 {
		tick()
	}
	after, err := f.s.Issuers.IssuerStatus(f.admin)
	check(t, err)
	if len(after.Keys) != len(sallyport.IssuerAlgorithms()) || after.Keys[0].Kid == before.Keys[0].Kid {
		t.Errorf("four hours later the keys are %+v", after.Keys)
	}
	for _, k := range before.Keys {
		if _, err := f.kms.Signer(t.Context(), k.ID); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			t.Errorf("the key %s of before was not destroyed: %v", k.Kid, err)
		}
	}
	return failed
}

func TestRotationOverlaps(t *testing.T) {
	t.Parallel()
	if n := overlap(t, func(f *federation) {
		_, err := f.s.Issuers.RotateIssuer(f.admin, sallyport.RotateIssuer{Lead: sallyport.IssuerCache})
		check(f.t, err)
	}); n != 0 {
		t.Errorf("%d tokens were not taken through a rotation", n)
	}
	// The control: without an overlap the same parties refuse good tokens.
	if n := overlap(t, func(f *federation) {
		_, err := f.s.Issuers.RotateIssuer(f.admin, sallyport.RotateIssuer{Compromised: true})
		check(f.t, err)
	}); n == 0 {
		t.Error("every token was taken without an overlap: the test sees nothing")
	}
}

func TestRotateIssuer(t *testing.T) {
	t.Parallel()
	f := newFederation(t)
	old := f.mint("bank")
	status := func() sallyport.IssuerStatus {
		st, err := f.s.Issuers.IssuerStatus(f.admin)
		check(t, err)
		return st
	}
	first := status()
	if len(first.Keys) != 2 || first.Issuer != f.url || !first.Next.Equal(f.clock().Add(sallyport.IssuerPeriod-sallyport.IssuerLead)) {
		t.Fatalf("got %+v", first)
	}
	rotate := func(in sallyport.RotateIssuer) error {
		_, err := f.s.Issuers.RotateIssuer(f.admin, in)
		return err
	}
	for _, in := range []sallyport.RotateIssuer{{Lead: time.Minute}, {Lead: -time.Hour}, {Lead: 1000 * time.Hour}, {Lead: 2 * time.Hour, Compromised: true}} {
		if err := rotate(in); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%v: %v", in, err)
		}
	}
	check(t, rotate(sallyport.RotateIssuer{}))
	if err := rotate(sallyport.RotateIssuer{}); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("again: %v", err)
	}
	if st := status(); len(st.Keys) != 4 {
		t.Errorf("got %+v", st)
	}
	check(t, rotate(sallyport.RotateIssuer{Compromised: true}))
	st := status()
	if len(st.Keys) != 2 || st.Keys[0].SignsFrom.After(f.clock()) {
		t.Errorf("after a theft: %+v", st)
	}
	if err := f.verify(old, "bank", f.clock()); err == nil {
		t.Error("a token by the stolen key is taken")
	}
	if err := f.verify(f.mint("bank"), "bank", f.clock()); err != nil {
		t.Error(err)
	}
	// Nobody asks, and time passes: there is always one that signs.
	kids := map[string]bool{}
	for range 200 {
		f.pass(48 * time.Hour)
		st := status()
		for _, a := range sallyport.IssuerAlgorithms() {
			k, ok := st.Keys.Signing(a, f.clock())
			if !ok || len(st.Keys) > 4 {
				t.Fatalf("at %s: %+v", f.clock(), st)
			}
			kids[k.Kid] = true
		}
	}
	if len(kids) != 2*5 { // 400 days of 90
		t.Errorf("%d keys signed in 400 days", len(kids))
	}
	trail := f.trail("issuer.")
	if trail["issuer.key-made"] == 0 || trail["issuer.key-destroyed"] == 0 {
		t.Errorf("recorded %v", trail)
	}
}

// BenchmarkMint measures what a token costs besides the store's commits.
func BenchmarkMint(b *testing.B) {
	i := issuer.New(sallyporttest.NewKMS())
	claims := []byte(`{"iss":"https://ci.example","sub":"repo:api-01JD0000000000000000000000:environment:production","aud":"sts.amazonaws.com","x":"` + strings.Repeat("x", 1500) + `"}`)
	for _, a := range sallyport.IssuerAlgorithms() {
		key := sallyport.IssuerKey{ID: sallyport.KeyID("tokens-" + strings.ToLower(a)), Algorithm: a, Kid: "x"}
		if _, err := i.Make(b.Context(), key.ID, a); err != nil {
			b.Fatal(err)
		}
		b.Run(a, func(b *testing.B) {
			for b.Loop() {
				if _, err := i.Sign(b.Context(), key, claims); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
