// Package web is the face of Sallyport for people: pages rendered on the server.
//
// It asks the services of the root package and shows what they answer; it
// decides nothing and knows neither the engine nor the store. Every page works
// without script; the one module under static/ adds live updates, the log
// viewer and the keyboard. It is called by daemon, which mounts New's handler
// beside the API.
package web

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// Config is what the pages need. Services and BaseURL are required.
type Config struct {
	Services sallyport.Services
	Log      *slog.Logger     // nil: discard
	BaseURL  string           // as users reach it, e.g. "http://127.0.0.1:8080"; shown in commands to copy
	Version  string           // of the program, shown in the footer
	Secure   bool             // served over TLS: the cookie is Secure and has the __Host- prefix
	Now      func() time.Time // nil: time.Now
	// Provider says who people are, and Desk lets them in; nil: one-time links alone do.
	Provider sallyport.LoginProvider
	Desk     sallyport.LoginDesk
}

const (
	// maxForm bounds the body of a form; the largest field is a policy to try.
	maxForm = 1 << 20
	// maxStreams bounds the open event streams of all pages together, each of
	// which holds a goroutine or two and a connection.
	maxStreams = 1024
	// listPage is the number of entries on a page of a list.
	listPage = 50
	// maxProjects bounds how many projects a page that spans all of them asks about.
	maxProjects = 100
	// downloadTimeout replaces the server's write deadline, meant for pages, for a
	// whole download over a slow line.
	downloadTimeout = time.Hour
)

type server struct {
	sallyport.Services
	log      *slog.Logger
	base     *url.URL
	version  string
	secure   bool
	now      func() time.Time
	views    map[string]*template.Template
	static   *staticFiles
	provider sallyport.LoginProvider // nil: there is none
	desk     sallyport.LoginDesk
	attempts []byte        // key of the cookies of logins under way
	streams  chan struct{} // a slot for each open event stream
}

// New returns the handler of all pages. It serves every path that it is given;
// event streams end with the context of their request, so a server that wants
// to stop gracefully cancels its base context first.
func New(cfg Config) (http.Handler, error) {
	base, err := url.Parse(cfg.BaseURL)
	if err != nil || base.Host == "" {
		return nil, errors.New("web: BaseURL must be an absolute URL")
	}
	static, err := loadStatic()
	if err != nil {
		return nil, err
	}
	s := &server{
		Services: cfg.Services, log: cfg.Log, base: base, version: cfg.Version, secure: cfg.Secure,
		now: cfg.Now, static: static, streams: make(chan struct{}, maxStreams),
		provider: cfg.Provider, desk: cfg.Desk, attempts: make([]byte, 32),
	}
	if (s.provider == nil) != (s.desk == nil) {
		return nil, errors.New("web: a provider needs a desk, and a desk a provider")
	}
	_, _ = rand.Read(s.attempts) // never fails
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.views, err = s.parseViews(); err != nil {
		return nil, err
	}
	// Forms are taken from our own pages only, by what the browser says of their origin.
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(s.guard(func(http.ResponseWriter, *http.Request) error {
		return sallyport.Errorf(sallyport.CodeDenied, "this form was sent from another site").WithHint("open the page here and try again")
	}))
	return s.edge(sameOrigin.Handler(s.routes())), nil
}

// handler is one page or action: parse, ask, render. The error it returns becomes an error page.
type handler func(http.ResponseWriter, *http.Request) error

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	open := func(pattern string, h handler) { mux.Handle(pattern, s.guard(h)) }
	page := func(pattern string, h handler) { mux.Handle(pattern, s.guard(s.signedIn(h))) }

	mux.Handle("GET /static/", s.static)
	mux.Handle("GET /favicon.ico", http.RedirectHandler(s.static.url("logo.svg"), http.StatusFound))
	open("GET /login", s.loginPage)
	open("POST /login", s.login)
	if s.provider != nil {
		open("GET "+providerPath, s.toProvider)
		open("GET "+sallyport.LoginCallback, s.fromProvider)
	}
	page("POST /logout", s.logout)

	page("GET /{$}", s.homePage)
	page("GET /projects", s.projectsPage)
	page("POST /projects", s.createProject)
	page("GET /projects/{project}", s.projectPage)
	page("POST /projects/{project}/dispatch", s.dispatch)
	page("GET /projects/{project}/caches", s.cachesPage)
	page("POST /projects/{project}/caches/{cache}/delete", s.deleteCache)
	page("GET /projects/{project}/secrets", s.secretsPage)
	page("POST /projects/{project}/secrets", s.setSecret)
	page("POST /projects/{project}/secrets/{name}/delete", s.deleteSecret)
	page("POST /projects/{project}/secrets/{name}/rotate", s.rotateSecret)
	page("GET /runs", s.runsPage)
	page("GET /runs/{run}", s.runPage)
	page("GET /runs/{run}/events", s.runEvents)
	page("POST /runs/{run}/cancel", s.cancelRun)
	page("GET /runs/{run}/jobs/{job}", s.jobPage)
	page("GET /runs/{run}/jobs/{job}/trace", s.tracePage)
	page("GET /runs/{run}/jobs/{job}/network", s.doorPage)
	page("GET /runs/{run}/jobs/{job}/log", s.rawLog)
	page("GET /runs/{run}/jobs/{job}/log/events", s.logEvents)
	page("GET /artifacts/{artifact}", s.artifactPage)
	page("GET /artifacts/{artifact}/download", s.downloadArtifact)
	page("POST /artifacts/{artifact}/judge", s.judgeArtifact)
	page("POST /artifacts/{artifact}/deploy", s.deployArtifact)
	page("GET /statements/{statement}/bundle", s.downloadBundle)
	page("GET /trusted-root.json", s.downloadTrustRoot)
	page("GET /deployments", s.deploymentsPage)
	page("GET /deployments/{deployment}", s.deploymentPage)
	page("GET /projects/{project}/environments/{environment}", s.environmentPage)
	page("POST /projects/{project}/environments/{environment}/rollback", s.rollback)
	page("GET /gates", s.gatesPage)
	page("GET /verdicts/{verdict}", s.verdictPage)
	page("POST /verdicts/{verdict}/replay", s.replayVerdict)
	page("GET /approvals", s.approvalsPage)
	page("GET /approvals/{request}", s.approvalPage)
	page("POST /approvals/{request}/vote", s.vote)
	page("POST /approvals/{request}/activate", s.activateGrant)
	page("POST /approvals/{request}/withdraw", s.withdrawRequest)
	page("POST /grants/{grant}/revoke", s.revokeGrant)
	page("GET /stops", s.stopsPage)
	page("POST /stops", s.throwStop)
	page("POST /stops/lift", s.liftStop)
	page("GET /audit", s.auditPage)
	page("POST /audit/verify", s.verifyAudit)
	page("GET /access", s.accessPage)
	page("GET /tokens", s.tokensPage)
	page("POST /tokens", s.createToken)
	page("POST /tokens/{token}/revoke", s.revokeToken)
	page("GET /system", s.systemPage)
	open("/", s.noSuchPage)
	return mux
}

func (s *server) noSuchPage(http.ResponseWriter, *http.Request) error {
	return sallyport.Errorf(sallyport.CodeNotFound, "there is no such page").
		WithHint("go back to the overview; an old link may name something that is gone")
}

// newRequestID returns a random id that ties an error page to the operator's log.
func newRequestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
