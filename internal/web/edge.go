package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// contentPolicy lets a page use what this handler serves and nothing else;
// no inline script or style runs, and no other site can frame it.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

type requestIDKey struct{}

// edge is what every request passes first: an id, the headers, a bounded body.
func (s *server) edge(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		id := h.Get("X-Request-Id") // the server around us may have given one
		if id == "" {
			id = newRequestID()
			h.Set("X-Request-Id", id)
		}
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store") // pages are private; static files say otherwise
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id)))
	})
}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// guard turns the error of a handler into an error page, and a panic into an
// internal error.
func (s *server) guard(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler {
				panic(v)
			}
			s.log.ErrorContext(r.Context(), "page panicked", "request", requestID(r.Context()), "path", r.URL.Path,
				"panic", v, "stack", string(debug.Stack()))
			s.renderError(w, r, sallyport.Errorf(sallyport.CodeInternal, "panic"))
		}()
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// fail logs what is our own fault and shows the error page.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return // the browser has gone
	}
	if code := sallyport.ErrorCode(err); code == sallyport.CodeInternal || code == sallyport.CodeUnavailable {
		s.log.ErrorContext(r.Context(), "page failed", "request", requestID(r.Context()), "path", r.URL.Path, "error", err)
	}
	s.renderError(w, r, err)
}

// cookieName is that of the session cookie. The __Host- prefix makes the browser
// refuse one that a sibling domain or plain HTTP has set (RFC 6265bis, 4.1.3.2).
func (s *server) cookieName() string {
	if s.secure {
		return "__Host-sallyport"
	}
	return "sallyport"
}

func (s *server) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{Name: s.cookieName(), Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode}
}

// signedIn finds out who asks. Whether they may is the engine's to judge.
func (s *server) signedIn(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		c, err := r.Cookie(s.cookieName())
		if err != nil {
			return s.toLogin(w, r)
		}
		p, err := s.Access.Authenticate(r.Context(), sallyport.TokenSession, c.Value)
		switch code := sallyport.ErrorCode(err); {
		case code == sallyport.CodeUnavailable || code == sallyport.CodeInternal:
			return err // the session may be good
		case err != nil || p.Kind == sallyport.Nobody:
			s.Access.Denied(r.Context(), r.Method+" "+r.URL.Path, "the session has ended or never was")
			http.SetCookie(w, s.cookie("", -1))
			return s.toLogin(w, r)
		}
		return h(w, r.WithContext(sallyport.WithPrincipal(r.Context(), p)))
	}
}

// toLogin sends people to the login page and tells programs the status.
func (s *server) toLogin(w http.ResponseWriter, r *http.Request) error {
	if strings.HasPrefix(r.Header.Get("Accept"), "text/event-stream") || r.Header.Get(fragmentHeader) != "" {
		http.Error(w, "not signed in", http.StatusUnauthorized)
		return nil
	}
	to := "/login"
	if s.provider != nil && r.Method == http.MethodGet && r.URL.Path != "/" {
		to += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}
