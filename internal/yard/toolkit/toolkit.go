package toolkit

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Port is where the job finds the server on its loopback. It lies above the
// ports that the kernel hands out, and no known service uses it.
const Port = 61357

// base is the server as the job names it.
const base = "http://127.0.0.1:61357"

// Config of a Service. Yard, Lease, Dir and Log are needed.
type Config struct {
	Yard  sallyport.Yard
	Lease *sallyport.Lease
	// Dir is an empty directory of the runner's own, in which uploads wait until they
	// are complete. The job cannot see it; whoever made it removes it.
	Dir string
	// Mask, when set, is told of every secret that the server hands out.
	Mask func(secret string)
	// Secret, when set, tells whether a text holds a secret of the job.
	Secret func(text string) bool
	// Lost, when set, is called when a call was refused as it is when the lease is lost.
	Lost  func()
	Log   *slog.Logger
	Clock func() time.Time
}

// Service answers the toolkits of one job.
type Service struct {
	cfg     Config
	mux     *http.ServeMux
	server  *http.Server
	uploads *uploads

	artifacts *artifacts
	caches    *caches

	// token is what ACTIONS_RUNTIME_TOKEN holds. It has the form of a JWT, for the
	// toolkits read the ids of run and job in it, but it is random and proves nothing
	// elsewhere; idToken is another, for the requests of ID tokens alone.
	token   string
	idToken string // "" when the job may not have ID tokens
}

// New makes the server of a job. Close frees what it holds.
func New(cfg Config) (*Service, error) {
	if cfg.Yard == nil || cfg.Lease == nil || cfg.Log == nil || cfg.Dir == "" {
		return nil, errors.New("toolkit: Yard, Lease, Dir and Log are needed")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Mask == nil {
		cfg.Mask = func(string) {}
	}
	if cfg.Secret == nil {
		cfg.Secret = func(string) bool { return false }
	}
	if cfg.Lost == nil {
		cfg.Lost = func() {}
	}
	s := &Service{cfg: cfg, mux: http.NewServeMux(), uploads: newUploads(cfg.Dir)}
	var err error
	if s.token, err = runtimeToken(cfg.Lease, cfg.Clock()); err != nil {
		return nil, err
	}
	cfg.Mask(s.token)
	s.mux.HandleFunc("PUT /blobs/uploads/{id}", s.putBlob)
	s.serveArtifacts()
	s.serveIDTokens()
	s.serveCaches()
	s.server = &http.Server{
		Handler:           s.mux,
		ReadHeaderTimeout: time.Minute, // a job that stalls holds one connection of its own few
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Serve answers connections until Close. What it asks of the control plane it asks
// with what ctx holds, and no longer than ctx lives. It is called once.
func (s *Service) Serve(ctx context.Context, ln net.Listener) error {
	s.server.BaseContext = func(net.Listener) context.Context { return ctx }
	if err := s.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the job's toolkits: %w", err)
	}
	return nil
}

// Close ends the server and forgets unfinished uploads.
func (s *Service) Close() error { return errors.Join(s.server.Close(), s.uploads.close()) }

// Handler is the server without a listener.
func (s *Service) Handler() http.Handler { return s.mux }

// Env returns the variables through which a step finds the server: those of a
// step that runs an action, or the fewer that GitHub gives to a script.
func (s *Service) Env(action bool) []sallyport.EnvVar {
	var env []sallyport.EnvVar
	if action {
		env = append(env,
			sallyport.EnvVar{Name: "ACTIONS_RUNTIME_URL", Value: base + "/"},
			sallyport.EnvVar{Name: "ACTIONS_RUNTIME_TOKEN", Value: s.token},
			sallyport.EnvVar{Name: "ACTIONS_RESULTS_URL", Value: base + "/"},
			sallyport.EnvVar{Name: "ACTIONS_CACHE_URL", Value: base + "/"},
			sallyport.EnvVar{Name: "ACTIONS_CACHE_SERVICE_V2", Value: "True"},
		)
	}
	if s.idToken != "" {
		env = append(env,
			// The toolkit appends "&audience=" to it.
			sallyport.EnvVar{Name: "ACTIONS_ID_TOKEN_REQUEST_URL", Value: base + "/idtoken?api-version=2.0"},
			sallyport.EnvVar{Name: "ACTIONS_ID_TOKEN_REQUEST_TOKEN", Value: s.idToken},
		)
	}
	return env
}

// handle registers a handler for requests that bear the job's token.
func (s *Service) handle(pattern string, h http.HandlerFunc) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if !bears(r, s.token) {
			answerError(w, sallyport.Errorf(sallyport.CodeDenied, "the request does not bear the job's ACTIONS_RUNTIME_TOKEN"))
			return
		}
		h(w, r)
	})
}

// bears tells whether the request has the token.
func bears(r *http.Request, token string) bool {
	kind, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(kind, "Bearer") && equal(got, token)
}

// equal compares secrets in constant time; nothing equals the empty one.
func equal(got, want string) bool {
	return want != "" && sallyport.NewSecret([]byte(want)).Equal([]byte(got))
}

// runtimeToken makes a random token in the form of a JWT.
func runtimeToken(l *sallyport.Lease, now time.Time) (string, error) {
	claims, err := json.Marshal(map[string]any{
		"scp": fmt.Sprintf("Actions.Results:%s:%s", l.Run.ID, l.Job.ID), "jti": random(), "iat": now.Unix(),
		"exp": now.Add(max(l.Timeout, time.Hour)).Add(time.Hour).Unix(),
	})
	if err != nil {
		return "", err
	}
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"typ":"JWT","alg":"none"}`)) + "." + part(claims) + "." + part([]byte(random())), nil
}

// random returns 256 random bits in hex.
func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
