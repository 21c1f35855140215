package toolkit

import (
	"net/http"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// MayHaveIDToken tells whether the job may ask for ID tokens: whether its
// permissions have id-token: write. The control plane decides when it is asked.
func MayHaveIDToken(l *sallyport.Lease) bool {
	if l.Plan == nil || l.Run.Tier == sallyport.TierUntrusted {
		return false
	}
	permissions := l.Plan.Permissions
	if job := l.Plan.Job(l.Job.PlanKey()); job != nil && job.Permissions != nil {
		permissions = job.Permissions
	}
	return permissions["id-token"] == "write"
}

// serveIDTokens answers GET /idtoken?audience=… as the OIDC client of @actions/core
// expects it, to those who bear the token for it.
func (s *Service) serveIDTokens() {
	if !MayHaveIDToken(s.cfg.Lease) {
		return
	}
	s.idToken = random()
	s.cfg.Mask(s.idToken)
	s.mux.HandleFunc("GET /idtoken", func(w http.ResponseWriter, r *http.Request) {
		if !bears(r, s.idToken) {
			answerError(w, sallyport.Errorf(sallyport.CodeDenied, "the request does not bear the job's ACTIONS_ID_TOKEN_REQUEST_TOKEN"))
			return
		}
		token, err := s.cfg.Yard.IDToken(r.Context(), s.cfg.Lease.Ref, r.URL.Query().Get("audience"))
		if err != nil {
			s.refused(err)
			answerError(w, err)
			return
		}
		// Before the job has it: whole, and the parts that a program prints alone. The
		// first part is the same in all tokens and no secret.
		s.cfg.Mask(token)
		for _, part := range parts(token) {
			s.cfg.Mask(part)
		}
		answer(w, http.StatusOK, struct {
			Value string `json:"value"`
		}{token})
	})
}

// parts are the claims and the signature of a JSON Web Token.
func parts(token string) []string {
	if all := strings.Split(token, "."); len(all) == 3 {
		return all[1:]
	}
	return nil
}
