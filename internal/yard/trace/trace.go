package trace

import (
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Config says what a Recorder needs to know of its job.
type Config struct {
	// Digests is shared by the jobs of a runner; nil is one of its own.
	Digests *Digests
	// Volume is the root of the file system that holds the workspace, if it is the
	// job's own; nil where it is not. It stays the caller's and must outlive the recorder.
	Volume *os.File
	// Clock is time.Now when nil.
	Clock func() time.Time
}

// Recorder records one job. Its methods may be called from several goroutines.
type Recorder struct {
	clock    func() time.Time
	programs *programs
	silent   string // why there is no watch

	now atomic.Int64 // the step that runs; 0 when it is none or several

	mu      sync.Mutex
	steps   []int // that run
	watch   *watch
	sources []*source
	gone    []sallyport.SourceChange // of sources in whose place another was checked out
	lost    int
	gaps    []sallyport.Gap
}

// New begins to record.
func New(c Config) *Recorder {
	r := &Recorder{clock: c.Clock}
	if r.clock == nil {
		r.clock = time.Now
	}
	if c.Digests == nil {
		c.Digests = &Digests{}
	}
	r.programs = newPrograms(func() int { return int(r.now.Load()) }, c.Digests)
	switch {
	case c.Volume == nil:
		r.silent = "the workspace is not a file system of its own"
	case os.Geteuid() != 0:
		r.silent = "only root may listen to a file system"
	default:
		w, err := newWatch(c.Volume)
		if err != nil {
			r.silent = err.Error()
		}
		r.watch = w
	}
	return r
}

// Started is sallyport.RoomSpec.Started of the job's rooms.
func (r *Recorder) Started(s sallyport.ProgramStart) { r.programs.started(s) }

// Begin tells that a step runs from now on, End that it does no more.
func (r *Recorder) Begin(step int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hear() // what is outstanding belongs to the time before
	r.steps = append(r.steps, step)
	r.turn()
}

// End tells that a step has ended.
func (r *Recorder) End(step int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hear()
	if i := slices.Index(r.steps, step); i >= 0 {
		r.steps = slices.Delete(r.steps, i, i+1)
	}
	r.turn()
}

func (r *Recorder) turn() {
	if len(r.steps) == 1 {
		r.now.Store(int64(r.steps[0]))
	} else {
		r.now.Store(0)
	}
}

func (r *Recorder) hear() {
	if r.watch != nil {
		r.watch.hear(int(r.now.Load()))
	}
}

// CheckingOut compares the source a last time before a checkout puts another in its place.
func (r *Recorder) CheckingOut() { r.compare("") }

// CheckedOut begins to look after the source of a commit that was just checked out into
// dir, which the recorder takes over. What became of a source that was there before stays in the
// record; see CheckingOut.
func (r *Recorder) CheckedOut(dir *os.File, commit string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := openSource(dir, commit, r.watch)
	if err != nil {
		dir.Close()
		r.gaps = append(r.gaps, sallyport.Gap{What: "source", Why: err.Error()})
		return err
	}
	r.sources = slices.DeleteFunc(r.sources, func(old *source) bool {
		if old.place != s.place {
			return false
		}
		r.gone = append(r.gone, old.list()...)
		r.lost += old.lost
		old.close()
		return true
	})
	r.sources = append(r.sources, s)
	return nil
}

// Tree returns the id of the tree that was checked out, "" when nothing was.
func (r *Recorder) Tree() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sources) == 0 {
		return ""
	}
	return r.sources[0].tree
}

// Artifact compares the source before an artifact is made of the workspace.
func (r *Recorder) Artifact(name string) { r.compare(name) }

func (r *Recorder) compare(artifact string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hear()
	for _, s := range r.sources {
		s.compare(int(r.now.Load()), artifact, r.clock())
	}
}

// Finish compares the source a last time, while the workspace is still there, and returns the
// record. The room must be destroyed, and no method be called afterwards.
func (r *Recorder) Finish() sallyport.Trace {
	r.compare("")
	var t sallyport.Trace
	t.Programs, t.Starts, t.Lost = r.programs.finish()
	r.mu.Lock()
	defer r.mu.Unlock()
	t.NotSeen = append(t.NotSeen, r.gaps...)
	if t.Starts > 0 {
		t.Methods = append(t.Methods, "seccomp")
	}
	for i, s := range r.sources {
		if i == 0 { // the run's own; others are told by their changes alone
			t.Source = &sallyport.SourceState{Commit: s.commit, Tree: s.tree, Files: len(s.files), Checked: s.checked}
			t.Methods = append(t.Methods, "stat")
		}
		t.Changes = append(t.Changes, s.list()...)
		t.Lost += s.lost
		s.close()
	}
	t.Changes, t.Lost = append(t.Changes, r.gone...), t.Lost+r.lost
	slices.SortStableFunc(t.Changes, func(a, b sallyport.SourceChange) int { return strings.Compare(a.Path, b.Path) })
	switch {
	case r.watch == nil && len(r.sources) > 0:
		t.NotSeen = append(t.NotSeen, sallyport.Gap{What: "restored-files", Why: "files that were changed and changed back are not seen: " + r.silent})
	case r.watch != nil && r.watch.deaf:
		t.NotSeen = append(t.NotSeen, sallyport.Gap{What: "restored-files", Why: "there were more writes than the kernel keeps"})
		fallthrough
	case r.watch != nil:
		t.Methods = append(t.Methods, "fanotify")
		r.watch.close()
	}
	slices.Sort(t.Methods)
	return t
}
