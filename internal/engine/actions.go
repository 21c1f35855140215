package engine

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/actions"
	"github.com/sallyport-ci/sallyport/internal/attest"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// ActionsConfig says how actions of other repositories are taken in.
type ActionsConfig struct {
	// From gets them; nil: there are none.
	From sallyport.Actions
	// Quarantine is how long new content rests before it may be used. 0 is
	// actions.DefaultQuarantine; below 0 is none.
	Quarantine time.Duration
	// OwnLock has the lock of the commit decide, as in a work tree of one's own. Otherwise
	// that of the default branch does.
	OwnLock bool
}

// remoteActions answers the compiler's questions about other repositories
// for one push. The lock is read when the first is asked.
type remoteActions struct {
	e     *Engine
	p     sallyport.Project
	push  sallyport.Push
	judge *actions.Judge
	trees map[sallyport.Digest]actions.Metadata
	// trouble is an error that may be gone at the next try: nothing is wrong with the workflow.
	trouble error
}

// remote is workflow.CompileInput's Remote.
func (r *remoteActions) remote(ctx context.Context) func(repository, ref string) (*workflow.Remote, error) {
	return func(repository, ref string) (*workflow.Remote, error) {
		found, err := r.find(ctx, repository, ref)
		if code := sallyport.ErrorCode(err); (code == sallyport.CodeUnavailable || code == sallyport.CodeInternal) && r.trouble == nil {
			r.trouble = err
		}
		return found, err
	}
}

func (r *remoteActions) find(ctx context.Context, repository, ref string) (*workflow.Remote, error) {
	if r.e.actions.From == nil {
		return nil, sallyport.Errorf(sallyport.CodeDenied, "%s is of another repository, and this installation takes in none", repository)
	}
	if r.judge == nil {
		j, err := r.e.actionJudge(ctx, r.p, r.push)
		if err != nil {
			return nil, err
		}
		r.judge = &j
	}
	entry, err := r.judge.Find(repository, ref)
	if err != nil {
		return nil, err
	}
	source := entry.Source()
	tree, known := r.trees[source.Digest]
	if !known {
		if tree, err = r.e.actionMetadata(ctx, source); err != nil {
			return nil, err
		}
		r.trees[source.Digest] = tree
	}
	return &workflow.Remote{Source: source, ReadFile: tree.ReadFile}, nil
}

// actionMetadata reads what a locked tree says of itself.
func (e *Engine) actionMetadata(ctx context.Context, s sallyport.PlanSource) (actions.Metadata, error) {
	if _, err := e.actions.From.Keep(ctx, s); err != nil {
		return nil, err
	}
	tree, err := e.actions.From.Open(ctx, s.Digest)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	return actions.ReadMetadata(tree)
}

// actionJudge is the judge of what a push uses of other repositories.
func (e *Engine) actionJudge(ctx context.Context, p sallyport.Project, push sallyport.Push) (actions.Judge, error) {
	j := actions.Judge{Quarantine: e.actions.Quarantine, Now: e.now()}
	own, err := e.actionLock(ctx, p.ID, push.Commit)
	if e.actions.OwnLock || push.Ref == p.DefaultRef() {
		j.Lock = own
		return j, err
	}
	if err == nil { // of a branch that does not decide, a broken lock is no reason to stop
		j.Proposed = own
	}
	j.Branch = p.DefaultBranch
	refs, err := e.repos.Refs(ctx, p.ID)
	if err != nil {
		return j, err
	}
	if head := refs[p.DefaultRef()]; head != "" {
		j.Lock, err = e.actionLock(ctx, p.ID, head)
	}
	return j, err
}

// actionLock reads the lock of a commit; that of one without is empty.
func (e *Engine) actionLock(ctx context.Context, p sallyport.ProjectID, commit string) (actions.Lock, error) {
	b, err := e.repos.ReadFile(ctx, p, commit, actions.LockPath, actions.MaxLockBytes)
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		return actions.Lock{}, nil
	}
	if err != nil {
		return actions.Lock{}, err
	}
	return actions.Parse(b)
}

// Action returns the tree of an action of the leased job's plan.
func (y yard) Action(ctx context.Context, l sallyport.LeaseRef, tree sallyport.Digest) (io.ReadCloser, error) {
	e := y.e
	if err := e.allow(ctx, actYard, ""); err != nil {
		return nil, err
	}
	_, run, err := e.peek(ctx, l)
	if err != nil {
		return nil, err
	}
	var plan *sallyport.Plan
	if err := e.view(ctx, func(tx sallyport.Tx) error {
		encoded, err := tx.Runs().Plan(run.ID)
		if err != nil {
			return err
		}
		plan, err = decodePlan(encoded)
		return err
	}); err != nil {
		return nil, err
	}
	for _, s := range planSources(plan) {
		if s.Digest != tree || e.actions.From == nil {
			continue
		}
		if _, err := e.actions.From.Keep(ctx, s); err != nil { // it may have been cleared away since
			return nil, err
		}
		return e.actions.From.Open(ctx, tree)
	}
	return nil, sallyport.Errorf(sallyport.CodeNotFound, "the plan of the job uses no action with the tree %.80s", tree)
}

// planSources are the trees of other repositories that a plan was made from, each once,
// in a fixed order.
func planSources(p *sallyport.Plan) []sallyport.PlanSource {
	var out []sallyport.PlanSource
	add := func(s *sallyport.PlanSource) {
		if s != nil && !slices.Contains(out, *s) {
			out = append(out, *s)
		}
	}
	for _, a := range p.Actions {
		add(a.Source)
	}
	for _, j := range p.Jobs {
		addCalls(j.Call, add)
	}
	slices.SortFunc(out, func(a, b sallyport.PlanSource) int {
		return actions.Compare(a.Repository+"@"+a.Ref, b.Repository+"@"+b.Ref)
	})
	return out
}

func addCalls(c *sallyport.PlanCall, add func(*sallyport.PlanSource)) {
	if c == nil {
		return
	}
	add(c.Source)
	for _, j := range c.Jobs {
		addCalls(j.Call, add)
	}
}

// actionResources are the same for a provenance.
func actionResources(p *sallyport.Plan) []attest.Resource {
	var out []attest.Resource
	for _, s := range planSources(p) {
		out = append(out, attest.Resource{Name: s.Repository, URI: fmt.Sprintf("git+%s@%s", s.URL, s.Ref), Digest: attest.GitCommit(s.Commit)})
	}
	return out
}
