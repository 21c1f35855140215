// Package forge keeps the projects' git repositories and speaks git's smart
// HTTP protocol for them.
//
// A repository is hostile content: whoever may push decides its names, sizes
// and objects. So all work is done by the system's git as plumbing on bare
// repositories, with an empty environment, no configuration but ours, no hooks,
// no transports, bounded time and output, and arguments that are object ids
// which this package has checked. Trees and commits are walked in Go: no path or
// name from outside ever becomes part of a git command line.
//
// It decides nothing: who may read or push is the caller's judgement, handed
// in as functions. It is used by engine (as sallyport.Repositories), by api
// (Serve) and for local runs (Import).
package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	// The oldest git whose upload-pack and receive-pack know the options used here.
	minMajor, minMinor = 2, 34

	// A bare query reads local objects; what takes longer than this is stuck.
	queryTimeout = 2 * time.Minute
	// Unpacking and checking the largest push allowed takes minutes on a small machine.
	transferTimeout = 15 * time.Minute

	// Processes of git at once: each may use tens of MiB, and more than this
	// only wait for the same disk.
	maxProcesses = 32
	// Pushes at once: each may keep a pack of maxPack in the temporary directory.
	maxPushes = 8

	// The largest pack that a push may carry.
	defaultMaxPack = 512 << 20
)

// Config says where the repositories are. Dir is required.
type Config struct {
	// Dir holds one bare repository per project, ID.git.
	Dir string
	// Temp holds packs being received and kept bundles, on the file system of
	// Dir and for this process alone; default Dir/.tmp.
	Temp string
	// MaxPack is the size in bytes of the largest push; default 512 MiB.
	MaxPack int64
	// Log is required.
	Log *slog.Logger
	// Now is the clock of snapshots; default time.Now.
	Now func() time.Time
}

// Git is the repositories of one installation.
type Git struct {
	dir     string
	temp    string
	home    string // an empty directory that is nobody's home
	git     string // absolute path of the program
	maxPack int64
	log     *slog.Logger
	now     func() time.Time

	processes chan struct{}
	pushes    chan struct{}
	locks     sync.Map // sallyport.ProjectID to chan struct{}: who writes to a repository
	bundles   bundles
}

var _ sallyport.Repositories = (*Git)(nil)

// New opens the repositories. It answers CodeUnavailable when there is no git,
// or one that is too old.
func New(ctx context.Context, c Config) (*Git, error) {
	if c.Dir == "" || c.Log == nil {
		return nil, errors.New("forge: Dir and Log must be set")
	}
	if c.Temp == "" {
		c.Temp = filepath.Join(c.Dir, ".tmp")
	}
	if c.MaxPack == 0 {
		c.MaxPack = defaultMaxPack
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("repository directory: %w", err)
	}
	temp, err := filepath.Abs(c.Temp)
	if err != nil {
		return nil, fmt.Errorf("temporary directory: %w", err)
	}
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeUnavailable, "git is not installed").
			WithHint("install git %d.%d or newer, for example: apt-get install git", minMajor, minMinor)
	}
	g := &Git{
		dir: dir, temp: temp, home: filepath.Join(temp, "home"), git: program, maxPack: c.MaxPack, log: c.Log, now: c.Now,
		processes: make(chan struct{}, maxProcesses),
		pushes:    make(chan struct{}, maxPushes),
	}
	if err := sweep(temp); err != nil {
		return nil, fmt.Errorf("clear temporary directory: %w", err)
	}
	for _, d := range []string{dir, g.home, g.bundleDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("repository directory: %w", err)
		}
	}
	if err := g.checkVersion(ctx); err != nil {
		return nil, err
	}
	return g, nil
}

// sweep removes what an earlier process left half-done.
func sweep(temp string) error {
	entries, err := os.ReadDir(temp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch kind, _, _ := strings.Cut(e.Name(), "-"); kind {
		case "action", "create", "bundle", "bundles", "push", "import":
			if err := os.RemoveAll(filepath.Join(temp, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *Git) checkVersion(ctx context.Context) error {
	out, err := g.output(ctx, command{args: []string{"version"}})
	if err != nil {
		return fmt.Errorf("run git: %w", err)
	}
	if !recentEnough(string(out)) {
		return sallyport.Errorf(sallyport.CodeUnavailable, "%s is too old", strings.TrimSpace(string(out))).
			WithHint("install git %d.%d or newer", minMajor, minMinor)
	}
	return nil
}

var versionText = regexp.MustCompile(`^git version (\d+)\.(\d+)`)

func recentEnough(version string) bool {
	m := versionText.FindStringSubmatch(version)
	if m == nil {
		return false
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return major > minMajor || major == minMajor && minor >= minMinor
}

// Create makes an empty bare repository whose HEAD is the default branch.
func (g *Git) Create(ctx context.Context, p sallyport.Project) error {
	if !validBranch(p.DefaultBranch) {
		return sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not a branch name", p.DefaultBranch)
	}
	path, err := g.path(p.ID)
	if err != nil {
		return err
	}
	unlock, err := g.lock(ctx, p.ID)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	// Made aside and moved into place, so that a crash leaves no half repository.
	tmp, err := os.MkdirTemp(g.temp, "create-")
	if err != nil {
		return fmt.Errorf("create repository: %w", fullDisk(err))
	}
	defer os.RemoveAll(tmp)
	if err := g.initBare(ctx, tmp, p.DefaultBranch); err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("create repository: %w", fullDisk(err))
	}
	return nil
}

func (g *Git) initBare(ctx context.Context, dir, branch string) error {
	_, err := g.output(ctx, command{args: []string{
		"init", "--quiet", "--bare", "--template=", "--object-format=sha1", "--initial-branch=" + branch, "--", dir}})
	return err
}

// Maintain packs a repository that has grown many small pieces. It blocks
// pushes to it meanwhile; objects younger than two weeks are never dropped.
func (g *Git) Maintain(ctx context.Context, p sallyport.ProjectID) error {
	repo, err := g.open(p)
	if err != nil {
		return err
	}
	unlock, err := g.lock(ctx, p)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = g.output(ctx, command{
		repo:    repo,
		config:  []string{"gc.auto=2000", "gc.autoPackLimit=50", "gc.autoDetach=false", "gc.pruneExpire=2.weeks.ago"},
		args:    []string{"gc", "--auto", "--quiet"},
		timeout: transferTimeout,
	})
	if err != nil {
		return fmt.Errorf("pack repository: %w", err)
	}
	return nil
}

// path returns where the repository of a project is or will be.
func (g *Git) path(p sallyport.ProjectID) (string, error) {
	if !validID(string(p)) {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not the id of a project", string(p))
	}
	return filepath.Join(g.dir, string(p)+".git"), nil
}

// open returns the path of an existing repository.
func (g *Git) open(p sallyport.ProjectID) (string, error) {
	path, err := g.path(p)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", sallyport.Errorf(sallyport.CodeNotFound, "the project has no repository")
	} else if err != nil {
		return "", fmt.Errorf("open repository: %w", err)
	}
	return path, nil
}

// lock waits until no one else writes to the repository.
func (g *Git) lock(ctx context.Context, p sallyport.ProjectID) (unlock func(), err error) {
	c, _ := g.locks.LoadOrStore(p, make(chan struct{}, 1))
	turn := c.(chan struct{})
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the repository: %w", context.Cause(ctx))
	}
}

// validID reports whether s is a UUID as sallyport.NewID writes it; nothing
// else becomes part of a file name.
func validID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !isHex(c) {
			return false
		}
	}
	return true
}

// validCommit reports whether s is a full SHA-1 object id; abbreviations,
// refs and revision expressions are not.
func validCommit(s string) bool {
	if len(s) != 40 {
		return false
	}
	for _, c := range []byte(s) {
		if !isHex(c) {
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

func checkCommit(s string) error {
	if !validCommit(s) {
		return sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not a commit id", s).
			WithHint("give all 40 hexadecimal digits of the commit")
	}
	return nil
}
