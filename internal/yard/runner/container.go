package runner

import (
	"context"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// Places in the room of a job container, as GitHub has them.
const (
	containerWork  = "/__w"
	containerTools = "/__t"
	containerHome  = "/github/home"
)

// container is an image with what a workflow says about running it.
type container struct {
	image sallyport.Image
	root  string // its unpacked root file system
	env   variables
	user  string // "" is root
	dir   string // working directory of the image
	argv  []string
	ports []portMapping
	check healthCheck
}

// portMapping is one item of ports: where a port of a container answers.
type portMapping struct{ container, host int } // host 0: it does not matter where

// healthCheck is what --health-* options say; no command is no check.
type healthCheck struct {
	command           string
	interval, timeout time.Duration
	start             time.Duration
	retries           int
}

// Defaults of health checks are docker's; the bounds keep a workflow from
// waiting for ever.
const (
	defaultHealthInterval = 30 * time.Second
	defaultHealthRetries  = 3
	maxHealthRetries      = 1000
)

// getContainer reads a container key: an image, or a mapping with one. nil when it
// evaluates to no image, which is no container (GitHub: "jobs.<job_id>.container").
func (j *job) getContainer(ctx context.Context, scope *workflow.Scope, tree sallyport.Tree, what string) (*container, error) {
	v, err := scope.Tree(tree)
	if err != nil {
		return nil, err
	}
	get := func(key string) workflow.Value { x, _ := v.Get(key); return x }
	reference := v
	if v.Kind() == workflow.KindObject {
		reference = get("image")
	}
	switch reference.Kind() {
	case workflow.KindNull:
		return nil, nil
	case workflow.KindString, workflow.KindNumber:
	default:
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s: an image is named by a text, not by %s", what, reference.Kind())
	}
	if reference.Tainted() && j.lease.Run.Tier == sallyport.TierUntrusted {
		return nil, sallyport.Errorf(sallyport.CodeDenied, "%s: in a run that somebody outside caused, the image must not be chosen by text that they wrote", what)
	}
	name := strings.TrimPrefix(strings.TrimSpace(reference.String()), "docker://")
	if name == "" {
		return nil, nil
	}
	if get("credentials").Kind() != workflow.KindNull {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s: credentials are not taken from a workflow", what).
			WithHint("log the host in to the registry: the control plane fetches images with the host's own credentials")
	}
	c, err := j.fetchImage(ctx, name, what)
	if err != nil {
		return nil, err
	}
	for _, e := range get("env").Entries() {
		c.env.set(workflow.Var{Name: e.Key, Value: e.Value.String(), Tainted: e.Value.Tainted()})
	}
	for _, p := range get("ports").Items() {
		m, err := parsePort(p.String())
		if err != nil {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s: %v", what, err)
		}
		c.ports = append(c.ports, m)
	}
	for _, x := range get("volumes").Items() {
		if source, _, ok := strings.Cut(x.String(), ":"); ok && (path.IsAbs(source) || strings.HasPrefix(source, ".")) {
			return nil, sallyport.Errorf(sallyport.CodeDenied, "%s: the volume %.100q would show it a directory of the host", what, x.String()).
				WithHint("remove it: the workspace is there already, and what else a job needs belongs into its image")
		}
	}
	if err := c.options(get("options").String()); err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s: %v", what, err)
	}
	// Services have these keys of their own besides the options.
	if x := get("entrypoint").String(); x != "" {
		c.argv = []string{x}
	}
	if x := get("command").String(); x != "" {
		words, err := splitCommand(x)
		if err != nil {
			return nil, err
		}
		c.argv = append(c.argv[:min(len(c.argv), max(1, len(c.image.Config.Entrypoint)))], words...)
	}
	return c, nil
}

// fetchImage resolves an image and unpacks it.
func (j *job) fetchImage(ctx context.Context, reference, what string) (*container, error) {
	store, err := j.runner.imageStore()
	if err != nil {
		return nil, err
	}
	var i sallyport.Image
	err = retry(ctx, func() (err error) {
		i, err = j.runner.cfg.Yard.Image(ctx, j.lease.Ref, reference)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	j.log.say(0, sallyport.LogSystem, "%s: image %s is %s.", what, reference, i.Digest)
	root, release, err := store.Root(ctx, i, func(ctx context.Context, d sallyport.Digest) (io.ReadCloser, error) {
		return j.runner.cfg.Yard.ImageLayer(ctx, j.lease.Ref, reference, d)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	j.mu.Lock()
	j.release = append(j.release, release) // when the rooms are gone
	j.mu.Unlock()
	c := &container{
		image: i, root: root, user: i.Config.User, dir: i.Config.WorkingDir,
		argv: append(append([]string{}, i.Config.Entrypoint...), i.Config.Cmd...),
	}
	if !path.IsAbs(c.dir) {
		c.dir = "/"
	}
	if u, _, _ := strings.Cut(c.user, ":"); u == "root" || u == "0" {
		c.user = ""
	}
	for _, e := range i.Config.Env {
		c.env.set(workflow.Var{Name: e.Name, Value: e.Value})
	}
	return c, nil
}

// parsePort reads [HOST:]CONTAINER[/tcp]; an address before them is left out, for a
// room has its loopback alone.
func parsePort(text string) (portMapping, error) {
	number := func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 65535 {
			return 0, fmt.Errorf("%.60q is no port: write CONTAINER or HOST:CONTAINER", text)
		}
		return n, nil
	}
	text = strings.TrimSpace(text)
	ports, protocol, _ := strings.Cut(text, "/")
	if protocol != "" && protocol != "tcp" {
		return portMapping{}, fmt.Errorf("the port %.60q is not of TCP, which is all there is in a room", text)
	}
	parts := strings.Split(ports, ":")
	inner, err := number(parts[len(parts)-1])
	if err != nil || len(parts) == 1 || parts[len(parts)-2] == "" {
		return portMapping{container: inner}, err
	}
	outer, err := number(parts[len(parts)-2])
	return portMapping{inner, outer}, err
}

// options reads the options of docker create that mean something to a room. Those
// that would open it are refused, the rest has no effect.
func (c *container) options(text string) error {
	words, err := splitCommand(text)
	if err != nil {
		return err
	}
	for len(words) > 0 {
		name, value, given := strings.Cut(words[0], "=")
		words = words[1:]
		if !strings.HasPrefix(name, "-") {
			return fmt.Errorf("the options hold %.60q, which is no option", name)
		}
		if takesNoValue[name] {
			continue
		}
		if opensRoom[name] {
			return fmt.Errorf("the option %s would open the room and is refused", name)
		}
		if !given && len(words) > 0 {
			value, words = words[0], words[1:]
		}
		if err := c.option(name, value); err != nil {
			return err
		}
	}
	return nil
}

var (
	takesNoValue = map[string]bool{"--init": true, "--rm": true, "-i": true, "-t": true, "-it": true, "--tty": true, "--interactive": true, "--no-healthcheck": true, "--read-only": true}
	opensRoom    = map[string]bool{
		"--privileged": true, "--cap-add": true, "--device": true, "--volume": true, "-v": true, "--mount": true, "--network": true, "--net": true, "--pid": true,
		"--ipc": true, "--uts": true, "--userns": true, "--security-opt": true, "--cgroup-parent": true, "--cgroupns": true, "--runtime": true, "--volumes-from": true,
		"--gpus": true, "--group-add": true, "--sysctl": true,
	}
)

func (c *container) option(name, value string) (err error) {
	switch name {
	case "--user", "-u":
		c.user = value
	case "--workdir", "-w":
		c.dir = value
	case "--entrypoint":
		c.argv = append([]string{value}, c.image.Config.Cmd...)
	case "--env", "-e":
		key, v, _ := strings.Cut(value, "=")
		c.env.set(workflow.Var{Name: key, Value: v})
	case "--health-cmd":
		c.check.command = value
	case "--health-interval":
		c.check.interval, err = time.ParseDuration(value)
	case "--health-timeout":
		c.check.timeout, err = time.ParseDuration(value)
	case "--health-start-period":
		c.check.start, err = time.ParseDuration(value)
	case "--health-retries":
		if c.check.retries, err = strconv.Atoi(value); err == nil && (c.check.retries < 0 || c.check.retries > maxHealthRetries) {
			err = fmt.Errorf("at most %d are possible", maxHealthRetries)
		}
	}
	if err != nil {
		return fmt.Errorf("the option %s is %.60q: %w", name, value, err)
	}
	return nil
}
