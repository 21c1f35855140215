package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/door"
	"github.com/sallyport-ci/sallyport/internal/yard/image"
	"github.com/sallyport-ci/sallyport/internal/yard/tools"
	"github.com/sallyport-ci/sallyport/internal/yard/trace"
)

// Defaults of Config.
const (
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin"
	// defaultMaxLog is about a million lines of a hundred bytes.
	defaultMaxLog = 128 << 20
	// defaultGrace is what GitHub gives the steps that still run after a cancellation.
	defaultGrace = 5 * time.Minute
	// defaultDrain is for the same steps when the runner itself must stop.
	defaultDrain = 20 * time.Second
	// defaultTTL is for a lease that names none.
	defaultTTL = 30 * time.Second
)

// Config of a Runner. Yard, Sandbox, WorkDir, ID and Log are needed.
type Config struct {
	Yard    sallyport.Yard
	Sandbox sallyport.Sandbox
	// Strong makes the rooms of jobs that demand level strong (LabelStrong); nil: such jobs
	// are failed, and Labels must not offer it.
	Strong sallyport.Sandbox
	// WorkDir is the runner's own: it is made with mode 0700 if it is missing, and what
	// earlier jobs left in it is deleted at start.
	WorkDir  string
	ID       sallyport.RunnerID
	Name     string   // shown to people; the id if empty
	Labels   []string // what runs-on may ask for
	Capacity int      // jobs at the same time (1)
	Limits   sallyport.Limits
	Path     string        // PATH of the steps
	MaxLog   int64         // bytes of one job's encoded log (128 MiB)
	Grace    time.Duration // for always() steps after a cancellation (5 min)
	Drain    time.Duration // for the same when Run's context ends (20 s)
	// Visit, when set, is called in the room of a job that failed, after its last step
	// and before the room goes. That somebody was let in is said in the job's isolation.
	Visit func(ctx context.Context, job sallyport.Job, open Open)
	// ImageDir keeps unpacked images from job to job; "" is a directory beside WorkDir.
	ImageDir string
	// Tools are toolchains beside those of the host; nil when there are none.
	Tools *tools.Cache
	// Egress is what the doors of rooms have; the zero value lets rules reach public hosts.
	Egress Egress
	Log    *slog.Logger
	Clock  func() time.Time
}

// Open runs a command in the room of a job as its next step would run there.
type Open func(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error

// Runner leases jobs and does them.
type Runner struct {
	cfg Config

	imagesOnce sync.Once
	images     *image.Store
	imagesErr  error

	isolation sallyport.Isolation
	layout    func(parent, project string, volume sallyport.Volume) (*layout, error)
	nodes     nodes
	digests   trace.Digests
	trees     trees
}

// New checks the configuration. Nothing is started.
func New(cfg Config) (*Runner, error) {
	if cfg.Yard == nil || cfg.Sandbox == nil || cfg.Log == nil {
		return nil, errors.New("runner: Yard, Sandbox and Log are needed")
	}
	if cfg.ID == "" || !filepath.IsAbs(cfg.WorkDir) {
		return nil, errors.New("runner: an ID and an absolute WorkDir are needed")
	}
	if cfg.Name == "" {
		cfg.Name = string(cfg.ID)
	}
	cfg.Capacity = max(cfg.Capacity, 1)
	if cfg.Path == "" {
		cfg.Path = defaultPath
	}
	if cfg.MaxLog <= 0 {
		cfg.MaxLog = defaultMaxLog
	}
	cfg.MaxLog = max(cfg.MaxLog, 4*logEndSpace)
	if cfg.Grace <= 0 {
		cfg.Grace = defaultGrace
	}
	if cfg.Drain <= 0 {
		cfg.Drain = defaultDrain
	}
	if cfg.ImageDir == "" {
		cfg.ImageDir = cfg.WorkDir + "-images"
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Egress.Dialer == nil {
		cfg.Egress.Dialer = new(door.Dialer)
	}
	return &Runner{cfg: cfg, layout: newLayout, trees: trees{dir: filepath.Join(cfg.WorkDir, treesDir)}}, nil
}

// Run leases jobs and does them, up to Capacity at the same time, until ctx
// ends; then the running jobs are cancelled and Run returns nil when they are
// handed in. It returns an error when the host cannot isolate a job, or the
// control plane will never give work to this runner.
func (r *Runner) Run(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	slots := make(chan struct{}, r.cfg.Capacity)
	var jobs sync.WaitGroup
	defer jobs.Wait()
	wait := newBackoff()
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		asked := time.Now()
		lease, err := r.cfg.Yard.Lease(ctx, sallyport.LeaseRequest{
			Runner: r.cfg.ID, Name: r.cfg.Name, Labels: r.cfg.Labels, Isolation: r.isolation,
		})
		if ctx.Err() != nil && lease == nil {
			return nil
		}
		if lease == nil {
			<-slots
			switch code := sallyport.ErrorCode(err); {
			case code == sallyport.CodeDenied || code == sallyport.CodeInvalid:
				return fmt.Errorf("lease a job: %w", err)
			case err != nil:
				r.cfg.Log.WarnContext(ctx, "control plane gave no answer", "err", err)
			case time.Since(asked) >= time.Second:
				wait.reset()
				continue // a long poll that ended without work
			}
			if wait.sleep(ctx) != nil {
				return nil
			}
			continue
		}
		wait.reset()
		jobs.Go(func() {
			defer func() { <-slots }()
			r.do(ctx, lease)
		})
	}
}

// prepare makes the host ready: it checks what it can enforce and removes what
// an earlier process left.
func (r *Runner) prepare(ctx context.Context) error {
	isolation, err := r.cfg.Sandbox.Check(ctx)
	if err != nil {
		return fmt.Errorf("check the sandbox: %w", err)
	}
	r.isolation = isolation
	if err := r.cfg.Sandbox.Sweep(ctx); err != nil {
		return fmt.Errorf("sweep the sandbox: %w", err)
	}
	if r.cfg.Strong != nil {
		if err := r.cfg.Strong.Sweep(ctx); err != nil {
			return fmt.Errorf("sweep the sandbox: %w", err)
		}
	}
	if err := os.MkdirAll(r.cfg.WorkDir, 0o700); err != nil {
		return fmt.Errorf("make the work directory: %w", err)
	}
	entries, err := os.ReadDir(r.cfg.WorkDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the work directory: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "job-") || e.Name() == treesDir {
			if err := os.RemoveAll(filepath.Join(r.cfg.WorkDir, e.Name())); err != nil {
				r.cfg.Log.WarnContext(ctx, "old job directory was not removed", "dir", e.Name(), "err", err)
			}
		}
	}
	return nil
}
