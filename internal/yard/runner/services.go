package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
	"github.com/sallyport-ci/sallyport/internal/yard/toolkit"
)

// services are what the toolkits of actions find on the job's loopback. A job
// that has no use for them has none.
type services struct {
	toolkit *toolkit.Service
	dir     *os.File // names the socket's directory where its path is too long
	served  chan error
	path    string // of the socket, as the sandbox dials it
}

// needsServices tells whether the job may call the services: it runs the code of
// an action, or may ask for ID tokens.
func (j *job) needsServices() bool {
	for _, a := range j.lease.Plan.Actions {
		switch a.Kind {
		case sallyport.ActionNode, sallyport.ActionContainer, sallyport.ActionWorkspace: // the last may be anything
			return true
		}
	}
	return toolkit.MayHaveIDToken(j.lease)
}

// maxSocketPath is what Linux takes as the path of a unix socket.
const maxSocketPath = 107

// serve starts the services, which live as long as ctx, and says in spec where the room finds them.
func (j *job) serve(ctx context.Context, spec *sallyport.RoomSpec) error {
	dir := filepath.Join(j.layout.dir, "services")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(filepath.Join(dir, "uploads"), 0o700)); err != nil {
		return fmt.Errorf("make the services' directory: %w", err)
	}
	s := &services{served: make(chan error, 1)}
	var err error
	s.toolkit, err = toolkit.New(toolkit.Config{
		Yard: j.yard(), Lease: j.lease, Dir: filepath.Join(dir, "uploads"), Log: j.slog, Clock: j.runner.cfg.Clock, Lost: j.poke,
		Secret: j.mask.Contains,
		Mask:   func(secret string) { _ = j.mask.Add(secret) }, // long enough, and within the set's bound or shown to the job alone
	})
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "socket")
	if len(path) > maxSocketPath {
		// The sandbox dials it in this process, to which the directory has a short name too.
		if s.dir, err = os.Open(dir); err != nil {
			return fmt.Errorf("open the services' directory: %w", err)
		}
		path = fmt.Sprintf("/proc/self/fd/%d/socket", s.dir.Fd())
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for the job's services: %w", err), s.closeDir())
	}
	go func() { s.served <- s.toolkit.Serve(ctx, ln) }()
	j.services = s
	s.path = path
	spec.Serve, spec.ServePort = path, toolkit.Port
	return nil
}

func (s *services) closeDir() error {
	if s.dir == nil {
		return nil
	}
	return s.dir.Close()
}

// endServices stops the services. The room is gone already.
func (j *job) endServices(ctx context.Context) {
	if j.services == nil {
		return
	}
	err := j.services.toolkit.Close()
	if err := errors.Join(err, <-j.services.served, j.services.closeDir()); err != nil {
		j.slog.ErrorContext(ctx, "services did not end well", "err", err)
	}
}

// serviceEnv returns the variables through which a step finds the services. Those
// of a step that runs an action name a server of which the toolkits do not think that it
// is GitHub's product for a company's own machines: there they would refuse to work.
func (j *job) serviceEnv(f *frame, action bool) []workflow.Var {
	if j.services == nil {
		return nil
	}
	var vars []workflow.Var
	for _, e := range j.services.toolkit.Env(action) {
		vars = append(vars, workflow.Var{Name: e.Name, Value: e.Value})
	}
	if action {
		server, _ := f.scope.Get("github").Get("server_url")
		vars = append(vars, workflow.Var{Name: "GITHUB_SERVER_URL", Value: toolkitServer(server.String())})
	}
	return vars
}

// toolkitServer returns the URL of the server with a name that the toolkits take
// for one of GitHub's own: github.com, or below ghe.com or localhost. Names below
// localhost lead to the machine itself wherever they are looked up (RFC 6761).
func toolkitServer(server string) string {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		return "https://sallyport.localhost"
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	switch {
	case host == "github.com", strings.HasSuffix(host, ".ghe.com"), strings.HasSuffix(host, ".localhost"):
		return server
	case host == "localhost", net.ParseIP(host) != nil:
		host = "sallyport.localhost"
	default:
		host += ".localhost"
	}
	if u.Host = host; port != "" {
		u.Host = net.JoinHostPort(host, port)
	}
	return u.String()
}
