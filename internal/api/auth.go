package api

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// Tokens are far shorter; a longer credential is not looked up.
const maxCredential = 512

// admit finds out who asks and returns the request on their behalf. It
// answers itself and returns nil when nobody is let in.
func (s *server) admit(w http.ResponseWriter, r *http.Request) *http.Request {
	if public(r.URL.Path) {
		return r
	}
	value, given := credential(r)
	if !given {
		if p, ok := r.Context().Value(localKey{}).(sallyport.Principal); ok {
			return as(r, p)
		}
		why := "no credential was given"
		// Git asks without a credential first, to be told which kind it needs.
		if !isGit(r.URL.Path) {
			s.refuse(w, r, why)
			return nil
		}
		s.unauthorized(w, r, why)
		return nil
	}
	if value == "" || len(value) > maxCredential {
		s.refuse(w, r, "the credential is malformed")
		return nil
	}
	p, err := s.Services.Access.Authenticate(r.Context(), sallyport.TokenAPI, value)
	switch code := sallyport.ErrorCode(err); {
	case err == nil && p.Kind != sallyport.Nobody:
		return as(r, p)
	case code == sallyport.CodeUnavailable || code == sallyport.CodeInternal:
		if isGit(r.URL.Path) {
			s.failText(w, r, err)
		} else {
			s.fail(w, r, err)
		}
		return nil
	}
	s.refuse(w, r, "the token is unknown, expired or revoked")
	return nil
}

func as(r *http.Request, p sallyport.Principal) *http.Request {
	return r.WithContext(sallyport.WithPrincipal(r.Context(), p))
}

// credential returns the token of a request: a bearer token (RFC 6750) or, for
// git, the password of basic authentication (RFC 7617).
func credential(r *http.Request) (value string, given bool) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return "", false
	}
	scheme, rest, _ := strings.Cut(header, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return strings.TrimSpace(rest), true
	case strings.EqualFold(scheme, "Basic") && isGit(r.URL.Path):
		_, password, _ := r.BasicAuth()
		return password, true
	}
	return "", true
}

// refuse records a bad credential and answers 401; 429 without a record once
// an address has sent too many. A good credential is never held up by others' bad ones.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, why string) {
	s.metrics.refused.Inc()
	if wait := s.bad.take(remote(r)); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		p := s.problem(r.Context(), sallyport.Errorf(sallyport.CodeDenied, "too many bad credentials from this address").
			WithHint("wait, then use a valid token"))
		p.Status, p.Title = http.StatusTooManyRequests, http.StatusText(http.StatusTooManyRequests)
		write(w, p)
		return
	}
	s.Services.Access.Denied(r.Context(), fmt.Sprintf("%.10s %.200s", r.Method, r.URL.Path), why+", from "+remote(r))
	s.unauthorized(w, r, why)
}

func (s *server) unauthorized(w http.ResponseWriter, r *http.Request, why string) {
	if isGit(r.URL.Path) {
		w.Header().Set("WWW-Authenticate", `Basic realm="sallyport", charset="UTF-8"`)
		http.Error(w, why+"; use a token as the password, with any user name", http.StatusUnauthorized)
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="sallyport"`)
	p := s.problem(r.Context(), sallyport.Errorf(sallyport.CodeDenied, "%s", why).
		WithHint("send a valid token: Authorization: Bearer TOKEN"))
	p.Status, p.Title = http.StatusUnauthorized, http.StatusText(http.StatusUnauthorized)
	write(w, p)
}

// principal returns who asks.
func principal(ctx context.Context) sallyport.Principal { return sallyport.PrincipalFrom(ctx) }
