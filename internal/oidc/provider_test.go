package oidc_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	clientID = "sallyport"
	secret   = "the client's secret"
)

type claims map[string]any

// strict is a provider of identities that refuses what it may refuse. Whoever comes is
// signed in already, as person.
type strict struct {
	*httptest.Server
	key      *rsa.PrivateKey
	redirect string

	mu     sync.Mutex
	person claims
	codes  map[string]claims // that were not used, with the request that they are for
	asked  int               // calls of the token endpoint
	lax    bool              // does not look at the PKCE verifier
	names  bool              // names itself in answers (RFC 9207)
	tamper func(header, body claims)
	seal   func(signed string) string // makes the signature of "header.body"; nil: as it should be
	last   url.Values                 // the last request of a browser
}

func newStrict(t *testing.T, redirect string) *strict {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &strict{key: key, redirect: redirect, codes: map[string]claims{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		answer(w, claims{"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			// What it offers beside is not to be taken.
			"id_token_signing_alg_values_supported": []string{"none", "HS256", "RS256"}, "authorization_response_iss_parameter_supported": p.names})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		answer(w, claims{"keys": []claims{{"kty": "RSA", "kid": "k1", "alg": "RS256", "use": "sig", "n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes())}}})
	})
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func answer(w http.ResponseWriter, body claims) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (p *strict) authorize(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := r.URL.Query()
	p.last = q
	switch {
	case q.Get("client_id") != clientID, q.Get("redirect_uri") != p.redirect, q.Get("response_type") != "code", !slices.Contains(strings.Fields(q.Get("scope")), "openid"),
		q.Get("code_challenge_method") != "S256", len(q.Get("code_challenge")) != 43, len(q.Get("nonce")) < 20, len(q.Get("state")) < 20:
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	p.codes[code] = claims{"nonce": q.Get("nonce"), "challenge": q.Get("code_challenge")}
	back := url.Values{"code": {code}, "state": {q.Get("state")}}
	if p.names {
		back.Set("iss", p.URL)
	}
	http.Redirect(w, r, p.redirect+"?"+back.Encode(), http.StatusFound)
}

func (p *strict) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	refuse := func(code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(claims{"error": code})
	}
	id, pass, _ := r.BasicAuth()
	pass, _ = url.QueryUnescape(pass)
	code, known := p.codes[r.PostFormValue("code")]
	delete(p.codes, r.PostFormValue("code"))
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	switch {
	case id != clientID || pass != secret:
		refuse("invalid_client")
		return
	case !known, r.PostFormValue("redirect_uri") != p.redirect, r.PostFormValue("grant_type") != "authorization_code", !p.lax && b64(sum[:]) != code["challenge"]:
		refuse("invalid_grant")
		return
	}
	now := time.Now()
	header := claims{"alg": "RS256", "kid": "k1"}
	body := claims{"iss": p.URL, "aud": clientID, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "nonce": code["nonce"]}
	maps.Copy(body, p.person)
	if p.tamper != nil {
		p.tamper(header, body)
	}
	answer(w, claims{"access_token": rand.Text(), "token_type": "Bearer", "id_token": p.jwt(header, body)})
}

func (p *strict) jwt(header, body claims) string {
	h, _ := json.Marshal(header)
	b, _ := json.Marshal(body)
	signed := b64(h) + "." + b64(b)
	if p.seal != nil {
		return signed + "." + p.seal(signed)
	}
	return signed + "." + b64(p.sign(p.key, signed))
}

func (p *strict) sign(key *rsa.PrivateKey, signed string) []byte {
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return sig
}

// byPublicKey signs with a secret that everybody knows: the bytes of the public key.
func (p *strict) byPublicKey(signed string) string {
	der, err := x509.MarshalPKIXPublicKey(&p.key.PublicKey)
	if err != nil {
		panic(err)
	}
	m := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	m.Write([]byte(signed))
	return b64(m.Sum(nil))
}
