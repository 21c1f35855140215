package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// DefaultActionServer is what "uses: owner/repository@ref" means where nothing
// else is said.
const DefaultActionServer = "https://github.com/{owner}/{repo}"

const (
	// maxActionServers bounds how many are asked for one reference.
	maxActionServers = 20
	// A server that says nothing for this long is not there.
	lsRemoteTimeout = time.Minute
	// The largest of well-known actions has 300 MB in one commit.
	fetchTimeout = 5 * time.Minute
	// maxActionFetch bounds what a server may send for one commit. git has no limit of its
	// own for a fetch, so the directory is watched.
	maxActionFetch = 512 << 20
	watchEvery     = 200 * time.Millisecond
)

// ActionsConfig says where actions come from. Blobs is required.
type ActionsConfig struct {
	// Servers are addresses in which {owner} and {repo} stand for the two parts of a
	// repository's name: https, http on this host alone, file, or an absolute path. They are
	// asked in order. Empty means DefaultActionServer.
	Servers []string
	// Blobs keeps the trees.
	Blobs sallyport.Blobs
}

// Actions gets actions by the system's git.
type Actions struct {
	git     *Git
	servers []actionServer
	blobs   sallyport.Blobs
	turns   bundles // one fetch of a commit at a time
}

var _ sallyport.Actions = (*Actions)(nil)

// actionServer is one address; protocol is the one that git may speak with it.
type actionServer struct{ template, protocol string }

// treeScope binds the trees that are kept. They belong to no project: a tree
// is the same for all.
var treeScope = sallyport.Scope{Project: "actions", Name: "tree"}

// Actions returns what gets actions from the configured servers.
func (g *Git) Actions(c ActionsConfig) (*Actions, error) {
	if c.Blobs == nil {
		return nil, errors.New("forge: Blobs must be set")
	}
	if len(c.Servers) == 0 {
		c.Servers = []string{DefaultActionServer}
	}
	if len(c.Servers) > maxActionServers {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "more than %d action servers", maxActionServers)
	}
	a := &Actions{git: g, blobs: c.Blobs}
	for _, s := range c.Servers {
		server, err := parseActionServer(strings.TrimSpace(s))
		if err != nil {
			return nil, err
		}
		a.servers = append(a.servers, server)
	}
	return a, nil
}

func parseActionServer(s string) (actionServer, error) {
	bad := func(why string) (actionServer, error) {
		return actionServer{}, sallyport.Errorf(sallyport.CodeInvalid, "%.200q cannot be an action server: %s", s, why).
			WithHint("write an address as https://git.example.com/{owner}/{repo}.git, or the path of a directory as /srv/git/{owner}/{repo}.git")
	}
	if !strings.Contains(s, "{owner}") || !strings.Contains(s, "{repo}") {
		return bad("it lacks {owner} or {repo}")
	}
	if filepath.IsAbs(s) {
		s = "file://" + (&url.URL{Path: filepath.Clean(s)}).EscapedPath()
		s = strings.NewReplacer("%7Bowner%7D", "{owner}", "%7Brepo%7D", "{repo}").Replace(s)
	}
	u, err := url.Parse(strings.NewReplacer("{owner}", "owner", "{repo}", "repo").Replace(s))
	switch {
	case err != nil:
		return bad("it is not an address")
	case u.User != nil:
		return bad("it holds a credential, which would be logged and shown")
	case u.RawQuery != "" || u.Fragment != "":
		return bad("it has a query or a fragment")
	case u.Scheme == "https" && u.Host != "", u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path):
	case u.Scheme == "http":
		if host, err := netip.ParseAddr(u.Hostname()); u.Hostname() != "localhost" && (err != nil || !host.IsLoopback()) {
			return bad("what travels over http can be changed on its way; use https")
		}
	default:
		return bad("it is neither https nor file")
	}
	return actionServer{s, u.Scheme}, nil
}

// address is where the server has a repository.
func (s actionServer) address(repository string) string {
	owner, name, _ := strings.Cut(repository, "/")
	return strings.NewReplacer("{owner}", owner, "{repo}", name).Replace(s.template)
}

// command is a git command that may talk to the server.
func (s actionServer) command(c command) command {
	c.config = append(c.config, "protocol."+s.protocol+".allow=always", "protocol.version=2",
		"http.lowSpeedLimit=1000", "http.lowSpeedTime=30", "credential.helper=", "submodule.recurse=false")
	for _, name := range []string{"https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v := os.Getenv(name); v != "" {
			c.env = append(c.env, name+"="+v)
		}
	}
	return c
}

// checkRepository accepts owner/name; each becomes an element of an address.
func checkRepository(repository string) error {
	owner, name, ok := strings.Cut(repository, "/")
	for _, s := range []string{owner, name} {
		ok = ok && s != "" && len(s) <= 100 && strings.Trim(s, ".") != "" && s[0] != '-' &&
			strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
	}
	if !ok {
		return sallyport.Errorf(sallyport.CodeInvalid, "%.200q is not owner/repository", repository)
	}
	return nil
}

// Resolve asks the servers in order; one that cannot be asked ends the search,
// lest another one's repository of the same name takes its place.
func (a *Actions) Resolve(ctx context.Context, repository, ref string) (sallyport.PlanSource, error) {
	if err := checkRepository(repository); err != nil {
		return sallyport.PlanSource{}, err
	}
	if !validRef("refs/heads/"+ref) || strings.HasPrefix(ref, "-") {
		return sallyport.PlanSource{}, sallyport.Errorf(sallyport.CodeInvalid, "%.200q is not a ref", ref)
	}
	found := false
	for _, s := range a.servers {
		refs, err := a.refs(ctx, s, repository, ref)
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			continue
		}
		if err != nil {
			return sallyport.PlanSource{}, err
		}
		found = true
		commit := pick(refs, ref)
		if validCommit(ref) {
			commit = ref
		}
		if commit != "" {
			return sallyport.PlanSource{Repository: repository, URL: s.address(repository), Ref: ref, Commit: commit}, nil
		}
	}
	if found {
		return sallyport.PlanSource{}, sallyport.Errorf(sallyport.CodeNotFound, "%s has no tag and no branch %.200q", repository, ref)
	}
	return sallyport.PlanSource{}, sallyport.Errorf(sallyport.CodeNotFound, "no action server has %s", repository).
		WithHint("the servers that are asked: %s", a.described())
}

func (a *Actions) described() string {
	var all []string
	for _, s := range a.servers {
		all = append(all, s.template)
	}
	return strings.Join(all, ", ")
}

// refs returns the tag and the branch of a name, as the server has them.
func (a *Actions) refs(ctx context.Context, s actionServer, repository, ref string) (map[string]string, error) {
	args := []string{"ls-remote", "--quiet", "--", s.address(repository), "refs/tags/" + ref, "refs/tags/" + ref + "^{}", "refs/heads/" + ref}
	out, err := a.git.output(ctx, s.command(command{args: args, timeout: lsRemoteTimeout}))
	if err != nil {
		return nil, serverError(ctx, s, repository, err)
	}
	refs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if id, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t"); ok && validCommit(id) {
			refs[name] = id
		}
	}
	return refs, nil
}

// pick chooses among them as git does: tags come first, and an annotated one
// is the commit that it names.
func pick(refs map[string]string, ref string) string {
	for _, name := range []string{"refs/tags/" + ref + "^{}", "refs/tags/" + ref, "refs/heads/" + ref} {
		if id := refs[name]; id != "" {
			return id
		}
	}
	return ""
}

// notThere are words of git and its transports about a repository that the server does not
// have, or does not show to us, in the C locale.
var notThere = []string{"not found", "could not read Username", "Authentication failed", "does not appear to be a git repository",
	"does not exist", "HTTP code 404", "returned error: 404", "returned error: 403", "returned error: 401"}

// serverError tells a repository that is not there from a server that is not.
func serverError(ctx context.Context, s actionServer, repository string, err error) error {
	var git *gitError
	if ctx.Err() != nil || !errors.As(err, &git) {
		return err
	}
	if slices.ContainsFunc(notThere, func(w string) bool { return strings.Contains(git.stderr, w) }) {
		return sallyport.Errorf(sallyport.CodeNotFound, "the action server has no %s", repository)
	}
	return &sallyport.Error{Code: sallyport.CodeUnavailable, Message: fmt.Sprintf("%s cannot be asked for %s now", s.template, repository),
		Hint: "try again; the log of the control plane has the cause", Err: err}
}

// Keep makes sure that a tree is kept.
func (a *Actions) Keep(ctx context.Context, s sallyport.PlanSource) (sallyport.Digest, error) {
	if err := errors.Join(checkRepository(s.Repository), checkCommit(s.Commit)); err != nil {
		return "", err
	}
	if s.Digest != "" {
		if _, err := a.blobs.Stat(ctx, treeScope, s.Digest); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			return s.Digest, err
		}
	}
	done, err := a.turns.turn(ctx, s.Commit)
	if err != nil {
		return "", err
	}
	defer done()
	if s.Digest != "" { // somebody else may have fetched it meanwhile
		if _, err := a.blobs.Stat(ctx, treeScope, s.Digest); err == nil {
			return s.Digest, nil
		}
	}
	for _, server := range a.servers {
		got, err := a.fetch(ctx, server, s)
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			continue
		}
		if err != nil {
			return "", err
		}
		if s.Digest != "" && got != s.Digest {
			return "", sallyport.Errorf(sallyport.CodeConflict, "the files of %s at %s are not those that were locked: %s, not %s", s.Repository, s.Commit, got, s.Digest)
		}
		return got, nil
	}
	return "", sallyport.Errorf(sallyport.CodeNotFound, "no action server gives out the commit %s of %s", s.Commit, s.Repository).
		WithHint("the servers that are asked: %s", a.described())
}

// Open returns a tree that is kept.
func (a *Actions) Open(ctx context.Context, tree sallyport.Digest) (io.ReadCloser, error) {
	return a.blobs.Get(ctx, treeScope, tree)
}

// fetch gets one commit without its history and keeps its tree.
func (a *Actions) fetch(ctx context.Context, server actionServer, s sallyport.PlanSource) (sallyport.Digest, error) {
	repo, err := os.MkdirTemp(a.git.temp, "action-")
	if err != nil {
		return "", fmt.Errorf("fetch action: %w", fullDisk(err))
	}
	defer os.RemoveAll(repo)
	if err := a.git.initBare(ctx, repo, "main"); err != nil {
		return "", fmt.Errorf("fetch action: %w", err)
	}
	ctx, stop := watchSize(ctx, repo, maxActionFetch)
	defer stop()
	err = a.fetchRef(ctx, server, repo, s, s.Commit)
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound && s.Ref != "" && s.Ref != s.Commit {
		// A server may give out nothing but what its refs name.
		for _, ref := range []string{"refs/tags/" + s.Ref, "refs/heads/" + s.Ref} {
			if err = a.fetchRef(ctx, server, repo, s, ref); err == nil {
				break
			}
		}
	}
	if err != nil {
		return "", err
	}
	return a.keepTree(ctx, repo, s)
}

func (a *Actions) fetchRef(ctx context.Context, server actionServer, repo string, s sallyport.PlanSource, what string) error {
	_, err := a.git.output(ctx, server.command(command{
		repo: repo, timeout: fetchTimeout, config: []string{"fetch.fsckObjects=true"},
		args: []string{"fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules",
			"--", server.address(s.Repository), "+" + what + ":refs/sallyport/action"},
	}))
	var git *gitError
	switch {
	case err == nil:
		return nil
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case errors.As(err, &git) && (strings.Contains(git.stderr, "not our ref") || strings.Contains(git.stderr, "unadvertised object") ||
		strings.Contains(git.stderr, "couldn't find remote ref")):
		return sallyport.Errorf(sallyport.CodeNotFound, "the action server does not give out %s of %s", what, s.Repository)
	}
	return serverError(ctx, server, s.Repository, err)
}

// watchSize ends the context when the directory has grown beyond max.
func watchSize(ctx context.Context, dir string, max int64) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			var total int64
			_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					if info, err := d.Info(); err == nil {
						total += info.Size()
					}
				}
				return nil // files come and go while git works
			})
			if total > max {
				cancel(sallyport.Errorf(sallyport.CodeInvalid, "the action is larger than %d MiB", max>>20))
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-gone
	}
}
