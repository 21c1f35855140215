package broker

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sallyport-ci/sallyport"
)

const registryToken = "eyJ-token-of-the-registry-77aa"

// guarded is a registry that trades the credential for tokens, as Distribution's do.
func guarded(realm func() string, asked *atomic.Int32, scopes *[]string) http.Handler {
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			asked.Add(1)
			*scopes = append(*scopes, strings.Join(r.URL.Query()["scope"], " "))
			if user, password, _ := r.BasicAuth(); user != "bot" || password != canary || r.URL.Query().Get("service") != "reg" {
				http.Error(w, "no", http.StatusUnauthorized)
				return
			}
			fmt.Fprintf(w, `{"token":%q,"expires_in":300}`, registryToken+url.QueryEscape(r.URL.Query().Get("scope")))
			return
		}
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer "+registryToken) {
			w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="reg",scope="repository:all:*"`, realm()))
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		inner.ServeHTTP(w, r)
	})
}

func TestARegistrysTokenStaysAtTheDoor(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	var scopes []string
	var n *bench
	n = newBench(t, guarded(func() string { return fmt.Sprintf("https://auth.example.com:%d/token", n.port) }, &asked, &scopes),
		sallyport.CredentialRule{Kind: sallyport.CredentialRegistry, User: "bot", Host: "reg.example.com", Methods: []string{"GET", "HEAD", "POST", "PUT", "PATCH"}, Paths: []string{"/v2/team/app/"}})
	ref, err := name.NewTag(fmt.Sprintf("reg.example.com:%d/team/app:1", n.port))
	if err != nil {
		t.Fatal(err)
	}
	image, err := random.Image(100_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	options := remote.WithTransport(n.client.Transport)
	if err := remote.Write(ref, image, options); err != nil {
		t.Fatal(err)
	}
	back, err := remote.Image(ref, options)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := image.Digest()
	if got, err := back.Digest(); err != nil || got != want {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
	for _, s := range scopes {
		if s != "repository:team/app:pull" && s != "repository:team/app:pull,push" {
			t.Errorf("a token of %q was asked for", s)
		}
	}
	if got := asked.Load(); got != 2 {
		t.Errorf("%d tokens were asked for, want one for each set of actions", got)
	}
	other, _ := name.NewTag(fmt.Sprintf("reg.example.com:%d/team/secret:1", n.port))
	if _, err := remote.Image(other, options); err == nil || !strings.Contains(err.Error(), "not lent for this path") {
		t.Errorf("another repository: %v", err)
	}
	for _, from := range []string{"team/secret", "team/app/../secret", "team/app/%252e%252e/secret", "team/app/&from=team/secret", "team/app&from=team/secret"} {
		if answer, body := n.do("POST", "reg", "/v2/team/app/blobs/uploads/?mount=sha256:00&from="+from, nil); answer.StatusCode != http.StatusForbidden {
			t.Errorf("a mount from %s: %d %s", from, answer.StatusCode, body)
		}
	}
	if answer, _ := n.do("GET", "reg", "/token?service=reg&scope=repository:team/app:pull", nil); answer.StatusCode != http.StatusForbidden {
		t.Errorf("the job asked for a token itself: %d", answer.StatusCode)
	}
	answer, body := n.do("GET", "reg", "/v2/team/app/tags/list", nil)
	if all := body + fmt.Sprint(answer.Header); strings.Contains(all, registryToken) || answer.StatusCode != 200 {
		t.Errorf("%d, the token reached the job: %s", answer.StatusCode, all)
	}
}

func TestARegistryCannotSendTheCredentialElsewhere(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	var scopes []string
	n := newBench(t, guarded(func() string { return "https://tokens.example.org/token" }, &asked, &scopes),
		sallyport.CredentialRule{Kind: sallyport.CredentialRegistry, User: "bot", Host: "reg.example.com", Paths: []string{"/v2/team/app/"}})
	answer, body := n.do("GET", "reg", "/v2/team/app/tags/list", nil)
	if answer.StatusCode != http.StatusForbidden || !strings.Contains(body, "belongs to somebody else") || asked.Load() != 0 {
		t.Errorf("%d %q, %d tokens asked for", answer.StatusCode, body, asked.Load())
	}
}

func FuzzParseChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://auth.example.com/token",service="reg",scope="repository:a:pull"`)
	f.Add(`Basic realm=x`)
	f.Add(`bearer realm=https://x , service = y`)
	f.Fuzz(func(t *testing.T, h string) {
		if c := parseChallenge(h); c != nil && c.scheme == "bearer" && c.realm == "" {
			t.Errorf("%q: no realm", h)
		}
	})
}
