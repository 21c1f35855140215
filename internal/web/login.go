package web

import (
	"net/http"

	"github.com/sallyport-ci/sallyport"
)

type loginView struct {
	Token    string // of the one-time link; "" without one
	Provider string // what the company's provider is called; "" without one
	Begin    string // address at which a login there begins
	Again    bool   // who looks is signed in, and has to prove anew who they are
}

// loginPage shows a button for a one-time link. Only the button's POST burns
// the token: a mail scanner or a chat's link preview sends GETs.
func (s *server) loginPage(w http.ResponseWriter, r *http.Request) error {
	v := loginView{Token: r.FormValue("token")}
	s.offerProvider(&v, r.FormValue("next"), false)
	return s.render(w, r, "login", view{Title: "Sign in", Body: v})
}

func (s *server) login(w http.ResponseWriter, r *http.Request) error {
	session, expires, err := s.Access.Login(r.Context(), r.PostFormValue("token"))
	if err != nil {
		if code := sallyport.ErrorCode(err); code != sallyport.CodeUnavailable && code != sallyport.CodeInternal {
			s.Access.Denied(r.Context(), "POST /login", "the one-time link is used up, expired or wrong")
			err = sallyport.Errorf(sallyport.CodeDenied, "this link has been used or has expired").
				WithHint("make a new one with: sallyport login")
		}
		return err
	}
	s.endSession(r)
	http.SetCookie(w, s.cookie(session, max(1, int(expires.Sub(s.now()).Seconds()))))
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// endSession ends the session that the browser had before this login, if it had one. The
// link is burnt already: the login goes on when that cannot be done.
func (s *server) endSession(r *http.Request) {
	c, err := r.Cookie(s.cookieName())
	if err != nil {
		return
	}
	p, err := s.Access.Authenticate(r.Context(), sallyport.TokenSession, c.Value)
	if err == nil {
		err = s.Access.Logout(sallyport.WithPrincipal(r.Context(), p), c.Value)
	}
	if err != nil && sallyport.ErrorCode(err) != sallyport.CodeDenied {
		s.log.WarnContext(r.Context(), "session before a login was not ended", "request", requestID(r.Context()), "error", err)
	}
}

func (s *server) logout(w http.ResponseWriter, r *http.Request) error {
	if c, err := r.Cookie(s.cookieName()); err == nil {
		if err := s.Access.Logout(r.Context(), c.Value); err != nil && sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			return err
		}
	}
	http.SetCookie(w, s.cookie("", -1))
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}
