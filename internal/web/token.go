package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

type tokensView struct {
	Tokens []sallyport.Token
	Value  string // of the token just made, shown this once
	Made   sallyport.Token
}

// maxTokenDays is the longest life that the form offers.
const maxTokenDays = 365

func (s *server) tokensPage(w http.ResponseWriter, r *http.Request) error {
	return s.showTokens(w, r, tokensView{})
}

// createToken makes an API token that may do what its maker may. The answer to the
// form is the only page that ever shows its value.
func (s *server) createToken(w http.ResponseWriter, r *http.Request) error {
	name := strings.TrimSpace(r.PostFormValue("name"))
	days, err := strconv.Atoi(r.PostFormValue("days"))
	if err != nil || days < 1 || days > maxTokenDays {
		return invalid("a token lives for 1 to %d days", maxTokenDays)
	}
	if name == "" || len(name) > 64 {
		return invalid("a token needs a name of at most 64 characters: it stands in the audit trail")
	}
	p := sallyport.PrincipalFrom(r.Context())
	value, made, err := s.Access.CreateToken(r.Context(), name, sallyport.TokenAPI, p, time.Duration(days)*24*time.Hour)
	if err != nil {
		return err
	}
	return s.showTokens(w, r, tokensView{Value: value, Made: made})
}

func (s *server) showTokens(w http.ResponseWriter, r *http.Request, v tokensView) error {
	var err error
	if v.Tokens, err = s.Access.Tokens(r.Context()); err != nil {
		return err
	}
	return s.render(w, r, "tokens", view{Title: "Tokens", Nav: "tokens", Body: v})
}

func (s *server) revokeToken(w http.ResponseWriter, r *http.Request) error {
	if err := s.Access.RevokeToken(r.Context(), sallyport.TokenID(r.PathValue("token"))); err != nil {
		return err
	}
	return see(w, r, "/tokens", "revoked")
}
