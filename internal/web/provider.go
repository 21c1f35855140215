package web

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	providerPath = "/login/provider"
	attemptLife  = 10 * time.Minute // to prove at the provider who one is
	maxNext      = 1000
)

// attempt is what the browser of a login under way keeps, in a cookie that we alone can
// make. What goes to the provider is derived from it by a key that no browser has.
type attempt struct {
	Random []byte `json:"r"`
	At     int64  `json:"t"` // Unix seconds
	Fresh  bool   `json:"f,omitempty"`
	Next   string `json:"n,omitempty"` // path of ours
}

func (s *server) attemptCookieName() string { return s.cookieName() + "-attempt" }

// attemptCookie is Lax: the provider sends the browser back from another site.
func (s *server) attemptCookie(value string, maxAge int) *http.Cookie {
	c := s.cookie(value, maxAge)
	c.Name = s.attemptCookieName()
	return c
}

func (s *server) derive(label, payload string) string {
	m := hmac.New(sha256.New, s.attempts)
	m.Write([]byte(label + "\x00" + payload))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func (s *server) loginAttempt(payload string, a attempt) sallyport.LoginAttempt {
	return sallyport.LoginAttempt{
		State: s.derive("state", payload), Nonce: s.derive("nonce", payload), Verifier: s.derive("verifier", payload),
		At: time.Unix(a.At, 0), Fresh: a.Fresh,
	}
}

// toProvider begins a login.
func (s *server) toProvider(w http.ResponseWriter, r *http.Request) error {
	a := attempt{Random: make([]byte, 16), At: s.now().Unix(), Fresh: r.FormValue("fresh") != "", Next: localPath(r.FormValue("next"))}
	_, _ = rand.Read(a.Random) // never fails
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	payload := base64.RawURLEncoding.EncodeToString(b)
	address, err := s.provider.Begin(r.Context(), s.loginAttempt(payload, a))
	if err != nil {
		return err
	}
	http.SetCookie(w, s.attemptCookie(payload+"."+s.derive("cookie", payload), int(attemptLife.Seconds())))
	http.Redirect(w, r, address, http.StatusSeeOther)
	return nil
}

// attemptOf reads the cookie; false when there is none of ours that still counts.
func (s *server) attemptOf(r *http.Request) (a attempt, payload string, ok bool) {
	c, err := r.Cookie(s.attemptCookieName())
	if err != nil {
		return a, "", false
	}
	payload, mac, _ := strings.Cut(c.Value, ".")
	if !hmac.Equal([]byte(mac), []byte(s.derive("cookie", payload))) {
		return a, "", false
	}
	b, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || json.Unmarshal(b, &a) != nil {
		return a, "", false
	}
	return a, payload, s.now().Sub(time.Unix(a.At, 0)) < attemptLife
}

// fromProvider takes the answer of a login that this browser began, once.
func (s *server) fromProvider(w http.ResponseWriter, r *http.Request) error {
	http.SetCookie(w, s.attemptCookie("", -1))
	a, payload, ok := s.attemptOf(r)
	if !ok {
		const why = "this browser has begun no login, or too long ago"
		s.desk.Refused(r.Context(), why)
		return sallyport.Errorf(sallyport.CodeDenied, why).WithHint("log in again")
	}
	proof, err := s.provider.Finish(r.Context(), s.loginAttempt(payload, a), r.URL.Query())
	if err != nil {
		why, _ := sallyport.ErrorMessage(err)
		s.desk.Refused(r.Context(), why)
		return err
	}
	old := ""
	if c, err := r.Cookie(s.cookieName()); err == nil {
		old = c.Value
	}
	session, expires, err := s.desk.Enter(r.Context(), proof, old)
	if err != nil {
		return err
	}
	http.SetCookie(w, s.cookie(session, max(1, int(expires.Sub(s.now()).Seconds()))))
	http.Redirect(w, r, localPath(a.Next), http.StatusSeeOther)
	return nil
}

// localPath returns the address when it is one of ours that a login may lead to, else "/".
func localPath(address string) string {
	u, err := url.Parse(address)
	switch {
	case err != nil || len(address) > maxNext || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "",
		!strings.HasPrefix(address, "/") || strings.HasPrefix(u.Path, "//"), // "//host" is another site
		strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r == '\\' || r > '~' }),
		strings.Contains(u.Path, "\\"), strings.HasPrefix(u.Path, "/login"):
		return "/"
	}
	return address
}

// offerProvider puts the way over the provider on the page.
func (s *server) offerProvider(v *loginView, next string, fresh bool) {
	if s.provider == nil {
		return
	}
	q := url.Values{}
	if next = localPath(next); next != "/" {
		q.Set("next", next)
	}
	if fresh {
		q.Set("fresh", "1")
	}
	v.Provider, v.Begin, v.Again = s.provider.Name(), providerPath, fresh
	if len(q) > 0 {
		v.Begin += "?" + q.Encode()
	}
}

// loginAgain asks for a fresh login instead of doing what was asked, and leads back. It
// is a page with a link: a form may not lead to another site (contentPolicy).
func (s *server) loginAgain(w http.ResponseWriter, r *http.Request, back string) error {
	var v loginView
	s.offerProvider(&v, back, true)
	return s.renderStatus(w, r, http.StatusForbidden, "login", view{Title: "Sign in again", Body: v})
}
