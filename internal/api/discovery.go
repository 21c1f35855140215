package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// Where those who are shown an ID token look for the keys of its issuer. Anybody may.
const (
	discoveryPath = sallyport.DiscoveryPath
	keysPath      = sallyport.KeySetPath
)

// keysAge is how long the documents may be kept: far less than what we take for granted
// of those who do not obey, so that keys which replace compromised ones are seen soon.
const keysAge = 5 * time.Minute

func (s *server) discovery(w http.ResponseWriter, r *http.Request) {
	issuer, _, err := s.Services.Instance.TokenIssuer(sallyport.WithPrincipal(r.Context(), self))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.publish(w, sallyport.DiscoveryDocument(issuer))
}

func (s *server) tokenKeys(w http.ResponseWriter, r *http.Request) {
	_, keys, err := s.Services.Instance.TokenIssuer(sallyport.WithPrincipal(r.Context(), self))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.publish(w, keys)
}

func (s *server) publish(w http.ResponseWriter, document []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(document)))
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(keysAge.Seconds())))
	_, _ = w.Write(document)
}
