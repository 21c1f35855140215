// Package daemon wires Sallyport together: it is the only place that knows all
// packages. Up runs an installation (open → connect → serve → drain), Local runs
// a repository's workflows without one, and Runner, Proxy and Release are the
// processes of the yard, which are started as children of the same binary and
// hold no key.
//
// Only cli calls it.
package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	_ "time/tzdata" // for schedules, on hosts that know no time zones

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/api"
	"github.com/sallyport-ci/sallyport/internal/engine"
	"github.com/sallyport-ci/sallyport/internal/tlog"
	"github.com/sallyport-ci/sallyport/internal/web"
)

// Config of an installation. The zero value of everything but Data is a secure default.
type Config struct {
	Data     string // directory; made when missing
	Listen   string // address of pages, API and git ("127.0.0.1:7357")
	BaseURL  string // as people reach it; default derived from Listen
	Issuer   string // of ID tokens, a URL where its documents are published; default BaseURL
	Instance string // name in identities; fixed by the first start ("sallyport.localhost")
	Store    string // "postgres://…"; default is SQLite in Data
	TLSCert  string // PEM files; without them only loopback is served
	TLSKey   string
	NoRunner bool // run no runner of our own
	Capacity int  // jobs of our own runner at the same time; 0 = number of CPUs
	// WarmRooms is how many rooms our own runner makes before jobs ask for them; negative = by the number of CPUs.
	WarmRooms int
	// Registries are those that images of containers may come from; none by default.
	Registries []string
	Actions    ActionsConfig
	Egress     EgressConfig
	// UntrustedIn is where jobs of strangers are done: strong, standard, refuse; "" is strong
	// where this host has it, else refuse.
	UntrustedIn string
	// WitnessPolicy is the file that names the witnesses of the audit log; none by default.
	WitnessPolicy string
	// OIDC is a file about the company's provider of identities, where people log in; "": one-time links alone.
	OIDC string
	Exe  string // our binary, for the children; "" = the running one
	Log  *slog.Logger
}

// Info tells where a running installation is found.
type Info struct {
	URL      string // of the pages
	Data     string
	Services sallyport.Services
}

const defaultListen = "127.0.0.1:7357"

// drainTime is how long requests and jobs in progress may take to end.
const drainTime = 25 * time.Second

// Up serves until ctx ends, then drains. ready is called once when everything
// serves; an error of it ends the installation.
func Up(ctx context.Context, c Config, ready func(context.Context, Info) error) error {
	if c.Listen == "" {
		c.Listen = defaultListen
	}
	if err := c.check(); err != nil {
		return err
	}
	tlog.RouteLibraryLog(c.Log)
	listener, err := listen(c)
	if err != nil {
		return err
	}
	defer listener.Close()
	if c.BaseURL == "" {
		c.BaseURL = c.scheme() + "://" + listener.Addr().String()
	}
	in, err := open(ctx, c)
	if err != nil {
		return err
	}
	err = in.serve(ctx, listener, ready)
	return errors.Join(err, in.close())
}

func (c Config) scheme() string {
	if c.TLSCert != "" {
		return "https"
	}
	return "http"
}

// check refuses what would be insecure.
func (c Config) check() error {
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return sallyport.Errorf(sallyport.CodeInvalid, "a TLS certificate needs its key, and a key its certificate").WithHint("give both --tls-cert and --tls-key")
	}
	if err := checkIssuer(c.Issuer); err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "%.100q is not an address to listen on", c.Listen).WithHint("write HOST:PORT, as %s", defaultListen)
	}
	if c.TLSCert != "" || host == "localhost" {
		return nil
	}
	if a, err := netip.ParseAddr(host); err != nil || !a.IsLoopback() {
		return sallyport.Errorf(sallyport.CodeInvalid, "listening on %s without TLS would send tokens in the clear", c.Listen).
			WithHint("give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a TLS terminator")
	}
	return nil
}

func listen(c Config) (net.Listener, error) {
	l, err := net.Listen("tcp", c.Listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, sallyport.Errorf(sallyport.CodeConflict, "%s is in use", c.Listen).WithHint("stop what uses it, or choose another address with --listen")
	case errors.Is(err, syscall.EACCES):
		return nil, sallyport.Errorf(sallyport.CodeDenied, "this user may not listen on %s", c.Listen).WithHint("choose a port above 1023 with --listen")
	case err != nil:
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "cannot listen on %s: %v", c.Listen, err).WithHint("choose another address with --listen")
	}
	if c.TLSCert == "" {
		return l, nil
	}
	cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		l.Close()
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the TLS certificate cannot be used: %v", err).WithHint("give PEM files that belong together")
	}
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}), nil
}

// serve runs everything until ctx ends or a part fails, and drains in the
// order in which work flows: first nothing new comes in, then what runs ends.
func (in *installation) serve(ctx context.Context, listener net.Listener, ready func(context.Context, Info) error) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	services := in.engine.Services()
	faces := web.Config{Services: services, Log: in.log, BaseURL: in.c.BaseURL, Version: Version(), Secure: in.c.TLSCert != ""}
	if in.provider != nil {
		faces.Provider, faces.Desk = in.provider, in.engine.LoginDesk()
	}
	pages, err := web.New(faces)
	if err != nil {
		return fmt.Errorf("make pages: %w", err)
	}
	logs := map[string]http.Handler{
		"audit":      tlog.Handler(auditDir(in.c.Data), true),      // salted commitments
		"signatures": tlog.Handler(signatureDir(in.c.Data), false), // certificates name projects and workflows
	}
	programs, err := api.New(api.Config{Services: services, Yard: in.engine.Yard(), Git: in.repos, Logs: logs, Log: in.log, Version: Version(), BaseURL: in.c.BaseURL})
	if err != nil {
		return fmt.Errorf("make api: %w", err)
	}
	var servers []*http.Server
	var parts sync.WaitGroup
	start := func(l net.Listener, h http.Handler) {
		srv := api.Server(h, in.log)
		servers = append(servers, srv)
		parts.Go(func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				fail(fmt.Errorf("serve %s: %w", l.Addr(), err))
			}
		})
	}
	control, err := listenUnix(ControlSocket(in.c.Data))
	if err != nil {
		return err
	}
	yard, err := listenUnix(yardSocket(in.c.Data))
	if err != nil {
		control.Close()
		return err
	}
	start(control, api.WithOperator(programs, operator()))
	start(yard, api.WithRunner(programs, in.runnerPrincipal()))
	start(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if api.Owns(r.URL.Path) {
			programs.ServeHTTP(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	}))

	work, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWork(nil)
	parts.Go(func() { _ = in.engine.Run(work) }) // ends with its context alone
	parts.Go(func() { in.sequence(work) })
	if in.feed != nil {
		parts.Go(func() { in.feed.run(work) })
	}
	runner, stopRunner := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRunner()
	runnerGone := make(chan struct{})
	go func() {
		defer close(runnerGone)
		if !in.c.NoRunner {
			in.superviseRunner(runner)
		}
	}()
	if err := in.announce(ctx, ready, services); err != nil {
		fail(err)
	}
	<-ctx.Done()
	in.log.Info("draining")
	stopRunner()
	waitFor(runnerGone, drainTime)
	shutdown, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	for _, s := range servers {
		if err := s.Shutdown(shutdown); err != nil {
			_ = s.Close()
		}
	}
	stopWork(errors.New("shutting down"))
	parts.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (in *installation) announce(ctx context.Context, ready func(context.Context, Info) error, services sallyport.Services) error {
	if err := writeFile(addressFile(in.c.Data), []byte(in.c.BaseURL+"\n")); err != nil {
		return err
	}
	in.log.Info("serving", "url", in.c.BaseURL, "data", in.c.Data)
	if ready == nil {
		return nil
	}
	return ready(sallyport.WithPrincipal(ctx, operator()), Info{URL: in.c.BaseURL, Data: in.c.Data, Services: services})
}

// sequence brings audit records into the audit log. It ends for good when the
// two disagree: nothing is added to a trail that was altered while we did not look.
func (in *installation) sequence(ctx context.Context) {
	if !in.audited(ctx) {
		return
	}
	signal, stop := engine.NewLedger(in.store).Watch()
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := in.sequencer.Run(ctx); err != nil {
			in.log.Error("audit log halted", "error", err)
		}
	}()
	for {
		select {
		case <-done:
			return
		case <-signal:
			in.sequencer.Wake()
		}
	}
}

// audited compares the whole trail with its log, and halts the sequencer when
// they disagree. False means that there is nothing to sequence.
func (in *installation) audited(ctx context.Context) bool {
	const retryPause = time.Second // of a store that does not answer
	for {
		report, err := verifyAudit(ctx, in.c.Data, in.settings, engine.NewLedger(in.store))
		switch {
		case ctx.Err() != nil:
			return false
		case err != nil:
			in.log.Warn("audit trail could not be verified and will be tried again", "error", err)
			waitFor(ctx.Done(), retryPause)
		case !report.OK:
			reason := report.Problems[0].Text
			if more := len(report.Problems) - 1; more > 0 {
				reason += fmt.Sprintf(" (and %d more)", more)
			}
			in.sequencer.Halt(ctx, reason)
			return false
		default:
			return true
		}
	}
}

func waitFor(done <-chan struct{}, limit time.Duration) {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

// listenUnix listens on a socket of our own directory; only our user can connect.
func listenUnix(path string) (net.Listener, error) {
	const limit = 107 // sun_path, unix(7)
	if len(path) > limit {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the path of the data directory is too long: %s has more than %d bytes", path, limit).WithHint("choose a shorter --data")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // of a process that was killed; the lock is ours
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", filepath.Base(path), err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// operator is who comes through the control socket: the user who runs Sallyport.
func operator() sallyport.Principal {
	return sallyport.Principal{Kind: sallyport.Person, ID: fmt.Sprintf("local/%d", os.Getuid()), Name: "operator", Admin: true}
}

// Address returns where the installation of a data directory says it serves.
func Address(data string) string {
	b, err := os.ReadFile(addressFile(data))
	if err != nil {
		return "http://" + defaultListen
	}
	return strings.TrimSpace(string(b))
}
