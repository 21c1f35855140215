package api

import (
	"encoding/json"
	"net/http"

	"github.com/sallyport-ci/sallyport"
)

// Where those who are shown an ID token look for the keys of its issuer (OpenID
// Connect Discovery 1.0). Anybody may.
const (
	discoveryPath = "/.well-known/openid-configuration"
	keysPath      = "/.well-known/jwks"
)

func (s *server) discovery(w http.ResponseWriter, r *http.Request) {
	issuer, _, err := s.Services.Instance.TokenIssuer(sallyport.WithPrincipal(r.Context(), self))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"issuer": issuer, "jwks_uri": issuer + keysPath,
		"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"}, "scopes_supported": []string{"openid"},
		"claims_supported": []string{
			"sub", "aud", "exp", "iat", "nbf", "iss", "jti", "ref", "ref_type", "ref_protected", "sha", "repository", "repository_id", "repository_owner",
			"run_id", "run_number", "run_attempt", "actor", "workflow", "workflow_ref", "workflow_sha", "job_workflow_ref", "job_workflow_sha",
			"head_ref", "base_ref", "event_name", "environment", "runner_environment", "repository_visibility", "tier", "job", "job_id",
		},
	})
}

func (s *server) tokenKeys(w http.ResponseWriter, r *http.Request) {
	_, keys, err := s.Services.Instance.TokenIssuer(sallyport.WithPrincipal(r.Context(), self))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(keys)
}
