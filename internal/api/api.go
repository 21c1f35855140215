// Package api is the HTTP face of Sallyport for programs: the services as
// REST-like JSON calls with an OpenAPI 3.1 document, the runners' endpoint, git
// over HTTP, health, metrics and the trusted root.
//
// It authenticates, bounds, decodes, makes one service call and encodes. It
// decides nothing: who may do what is judged by the services. It knows no
// cookie; browsers are served by package web. Only daemon makes one.
package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/rpc"
)

// Git serves the git protocol of one repository. Its contract is that of forge.Git.
type Git interface {
	Serve(w http.ResponseWriter, r *http.Request, p sallyport.ProjectID, service string,
		judge func([]sallyport.RefUpdate) error, done func([]sallyport.RefUpdate) string)
}

// Config is what the API stands on. Services, Yard, Git and Log are required.
type Config struct {
	Services sallyport.Services
	Yard     sallyport.Yard
	Git      Git
	// Logs are transparency logs by name, served to anybody below /tlog/NAME/; none by default.
	Logs    map[string]http.Handler
	Log     *slog.Logger
	Version string
	// BaseURL is the address that people reach the installation at, without a
	// final slash; default is the address that the request was sent to.
	BaseURL string
	// Metrics takes the API's own metrics and is served at /metrics; default is a new one.
	Metrics *prometheus.Registry
	// Now is the clock; default time.Now.
	Now func() time.Time
}

type server struct {
	Config
	mux     *http.ServeMux
	huma    huma.API
	metrics *metrics
	bad     *limiter // bad credentials, by remote address
}

// New returns the handler of all addresses that Owns reports.
func New(c Config) (http.Handler, error) {
	s := c.Services
	switch {
	case s.Projects == nil, s.Runs == nil, s.Artifacts == nil, s.Gates == nil, s.Deployments == nil, s.Audit == nil, s.Access == nil, s.Instance == nil, s.Caches == nil, s.Doors == nil, s.Secrets == nil, s.Rights == nil, s.Approvals == nil, s.Stops == nil:
		return nil, errors.New("api: a service is missing")
	case c.Yard == nil, c.Git == nil, c.Log == nil:
		return nil, errors.New("api: Yard, Git and Log must be set")
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	m, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, fmt.Errorf("api metrics: %w", err)
	}
	api := &server{Config: c, mux: http.NewServeMux(), metrics: m, bad: newLimiter(c.Now)}
	api.huma = newHuma(api.mux, c.Version)
	api.services()
	api.yard()
	if err := api.document(); err != nil {
		return nil, err
	}
	api.mux.HandleFunc("GET /healthz", api.healthz)
	api.mux.HandleFunc("GET /readyz", api.readyz)
	api.mux.HandleFunc("GET /trust-root.json", api.trustRoot)
	api.mux.HandleFunc("GET "+discoveryPath, api.discovery)
	api.mux.HandleFunc("GET "+keysPath, api.tokenKeys)
	api.mux.Handle("GET /metrics", promhttp.HandlerFor(c.Metrics, promhttp.HandlerOpts{}))
	api.mux.HandleFunc("GET /{repository}/info/refs", api.git)
	api.mux.HandleFunc("POST /{repository}/git-upload-pack", api.git)
	api.mux.HandleFunc("POST /{repository}/git-receive-pack", api.git)
	for name, h := range c.Logs {
		path := logsPath + name
		api.mux.Handle("GET "+path+"/", http.StripPrefix(path, h))
	}
	api.mux.HandleFunc("/", api.unknown)
	return api, nil
}

// logsPath is above the transparency logs.
const logsPath = "/tlog/"

// Owns reports whether a path belongs to the API, rather than to the pages.
func Owns(path string) bool {
	switch path {
	case "/healthz", "/readyz", "/trust-root.json", "/metrics", discoveryPath, keysPath:
		return true
	}
	return strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/yard/") || strings.HasPrefix(path, logsPath) || isGit(path)
}

// isGit reports whether a path is one of /NAME.git/….
func isGit(path string) bool {
	name, rest, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return ok && rest != "" && strings.HasSuffix(name, ".git")
}

// public reports whether a path is answered to anyone.
func public(path string) bool {
	switch path {
	case "/healthz", "/readyz", "/trust-root.json", discoveryPath, keysPath:
		return true
	}
	return strings.HasPrefix(path, logsPath)
}

func (s *server) unknown(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, sallyport.Errorf(sallyport.CodeNotFound, "there is no %.10s %.200s", r.Method, r.URL.Path).
		WithHint("the calls are described in %s/openapi.json", rpc.Prefix))
}

func (s *server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// readyz says no more than yes or no: anybody may ask.
func (s *server) readyz(w http.ResponseWriter, r *http.Request) {
	h, err := s.Services.Instance.Health(sallyport.WithPrincipal(r.Context(), self))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil || !h.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("not ready\n"))
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

func (s *server) trustRoot(w http.ResponseWriter, r *http.Request) {
	root, err := s.Services.Instance.TrustRoot(sallyport.WithPrincipal(r.Context(), self))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(root)
}

// self asks for what is told to anyone.
var self = sallyport.Principal{Kind: sallyport.System, ID: "api", Name: "api"}
