package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"slices"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
)

const (
	// maxTrace bounds a job's trace; the runner keeps below a third of it.
	maxTrace = 8 << 20
	// Bounds of its lists, those of the runner.
	maxTracePrograms = 2000
	maxTraceChanges  = 5000
)

func traceScope(j sallyport.Job, p sallyport.ProjectID) sallyport.Scope {
	return sallyport.Scope{Project: string(p), Run: string(j.Run), Name: "trace/" + string(j.ID)}
}

// keepTrace keeps what a runner says that it has seen of a job; "" when it says nothing.
func (e *Engine) keepTrace(ctx context.Context, j sallyport.Job, p sallyport.ProjectID, t *sallyport.Trace) (sallyport.Digest, error) {
	if t == nil || e.blobs == nil {
		return "", nil
	}
	bounded := boundTrace(*t)
	b, err := json.Marshal(bounded)
	if err != nil {
		return "", err
	}
	digest, _, err := e.blobs.Put(ctx, traceScope(j, p), bytes.NewReader(b), sallyport.DigestOf(b), maxTrace)
	return digest, err
}

// boundTrace cuts what no runner of ours would say.
func boundTrace(t sallyport.Trace) sallyport.Trace {
	cut := func(n, limit int) int {
		t.Lost = max(t.Lost, 0) + max(n-limit, 0)
		return min(n, limit)
	}
	t.Programs = slices.Clone(t.Programs[:cut(len(t.Programs), maxTracePrograms)])
	for i := range t.Programs {
		p := &t.Programs[i]
		p.Path = text(p.Path, 4096)
		p.Steps = p.Steps[:min(len(p.Steps), maxSteps)]
		p.Arguments = slices.DeleteFunc(slices.Clone(p.Arguments[:min(len(p.Arguments), 16)]), notADigest)
		if notADigest(p.Digest) {
			p.Digest = ""
		}
	}
	t.Changes = slices.Clone(t.Changes[:cut(len(t.Changes), maxTraceChanges)])
	for i := range t.Changes {
		c := &t.Changes[i]
		c.Path, c.How, c.Artifact = text(c.Path, 4096), text(c.How, 20), text(c.Artifact, 256)
	}
	if s := t.Source; s != nil {
		t.Source = &sallyport.SourceState{Commit: text(s.Commit, 64), Tree: text(s.Tree, 64), Files: max(s.Files, 0), Checked: s.Checked}
	}
	t.Methods = slices.Clone(t.Methods[:min(len(t.Methods), 10)])
	for i := range t.Methods {
		t.Methods[i] = text(t.Methods[i], 40)
	}
	t.NotSeen = slices.Clone(t.NotSeen[:min(len(t.NotSeen), 20)])
	for i := range t.NotSeen {
		g := &t.NotSeen[i]
		g.What, g.Why = text(g.What, 100), text(g.Why, 500)
	}
	return t
}

func notADigest(d sallyport.Digest) bool {
	_, err := sallyport.ParseDigest(string(d))
	return err != nil
}

// trace returns what was kept of a job.
func (e *Engine) trace(ctx context.Context, j sallyport.Job, p sallyport.ProjectID) (sallyport.Trace, error) {
	var t sallyport.Trace
	if j.Trace == "" {
		return t, sallyport.Errorf(sallyport.CodeNotFound, "nothing was recorded of job %s", j.Name)
	}
	r, err := e.blobs.Get(ctx, traceScope(j, p), j.Trace)
	if err != nil {
		return t, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxTrace+1))
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(b, &t)
}

// attestTrace signs what was seen of a job that made artifacts.
func (e *Engine) attestTrace(ctx context.Context, in collected) ([]sallyport.Statement, error) {
	if e.notary == nil || in.job.Conclusion != sallyport.Success || in.job.Trace == "" || len(in.artifacts) == 0 {
		return nil, nil
	}
	t, err := e.trace(ctx, in.job, in.project.ID)
	if err != nil {
		return nil, err
	}
	var seen sallyport.DoorRecord
	if err := e.view(ctx, func(tx sallyport.Tx) error {
		entries, err := tx.Doors().ByRun(in.run.ID)
		seen = doorOf(entries, in.job)
		return err
	}); err != nil {
		return nil, err
	}
	matches := false
	if t.Source != nil {
		commit, err := e.repos.Commit(ctx, in.project.ID, t.Source.Commit)
		switch {
		case err == nil:
			matches = commit.Tree == t.Source.Tree
		case sallyport.ErrorCode(err) != sallyport.CodeNotFound && sallyport.ErrorCode(err) != sallyport.CodeInvalid:
			return nil, err
		}
	}
	var subjects []attest.Subject
	for _, a := range in.artifacts {
		subject := attest.Subject{Name: a.Filename, Digest: a.Digest}
		if !slices.ContainsFunc(subjects, func(s attest.Subject) bool { return s.Digest == a.Digest }) {
			subjects = append(subjects, subject)
		}
	}
	statement, err := attest.RuntimeTrace(subjects, attest.TraceInput{
		Instance: e.instance, Invocation: e.instance.Job(in.run.ID, in.job.ID), Trace: t, Record: in.job.Trace, Matches: matches, Flows: seen.Flows,
		Started: in.job.StartedAt, Finished: e.now(),
	})
	if err != nil {
		return nil, err
	}
	st, err := e.sign(ctx, e.builderIdentity(in), statement, sallyport.Statement{
		Project: in.project.ID, Run: in.run.ID, PredicateType: sallyport.PredicateTrace, Subjects: digests(subjects),
	})
	if err != nil {
		return nil, err
	}
	return []sallyport.Statement{st}, nil
}

// Trace returns what was seen of a job from outside its room.
func (s runs) Trace(ctx context.Context, id sallyport.JobID) (sallyport.Trace, error) {
	var project sallyport.ProjectID
	j, err := load(ctx, s.e, actRead, func(tx sallyport.Tx) (sallyport.Job, sallyport.ProjectID, error) {
		j, err := tx.Jobs().Get(id)
		if err != nil {
			return j, "", err
		}
		r, err := tx.Runs().Get(j.Run)
		project = r.Project
		return j, r.Project, err
	})
	if err != nil {
		return sallyport.Trace{}, err
	}
	return s.e.trace(ctx, j, project)
}
