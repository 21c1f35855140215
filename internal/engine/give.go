package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
)

// maxTaken bounds the records that a job causes by taking artifacts of other runs, and
// with them what its provenance names.
const maxTaken = 500

// taken is what the record of an artifact that a job took from another run holds.
type taken struct {
	Run      sallyport.RunID      `json:"run"` // that made it
	Artifact sallyport.ArtifactID `json:"artifact"`
	Name     string               `json:"name"`
	Digest   sallyport.Digest     `json:"digest"`
	Tier     sallyport.Tier       `json:"tier"`
	Attempt  int                  `json:"attempt"`
}

// GetArtifact gives a job an artifact of its own run, or of another run of its project. Both
// must be trusted as far as the job's run: what a stranger's run made never reaches one that
// may do more.
func (y yard) GetArtifact(ctx context.Context, l sallyport.LeaseRef, run sallyport.RunID, name string) (sallyport.Artifact, io.ReadCloser, error) {
	e := y.e
	if err := e.allow(ctx, actYard, ""); err != nil {
		return sallyport.Artifact{}, nil, err
	}
	j, r, err := e.peek(ctx, l)
	if err != nil {
		return sallyport.Artifact{}, nil, err
	}
	if run, err = e.runID(ctx, r.Project, run); err != nil {
		return sallyport.Artifact{}, nil, err
	}
	other := run != "" && run != r.ID
	if other {
		if err := e.mayReadRun(ctx, l, r, run); err != nil {
			return sallyport.Artifact{}, nil, err
		}
	} else {
		run = r.ID
	}
	var a sallyport.Artifact
	if err := e.view(ctx, func(tx sallyport.Tx) error {
		a, err = tx.Artifacts().Find(run, name)
		return err
	}); err != nil {
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			hint := "the job that uploads it must be in needs:"
			if other {
				hint = "list what it has with: sallyport artifacts list " + string(run)
			}
			err = sallyport.Errorf(sallyport.CodeNotFound, "the run has no artifact %.80q", name).WithHint("%s", hint)
		}
		return a, nil, err
	}
	if err := feeds(a, r); err != nil {
		return a, nil, err
	}
	if other {
		if err := e.recordTaken(ctx, l, a, j.Attempt); err != nil {
			return a, nil, err
		}
	}
	return e.openArtifact(ctx, a)
}

// runCalled returns the run that is named by its id, or by its number in the project, which is what its jobs know as
// github.run_id.
func runCalled(tx sallyport.Tx, p sallyport.ProjectID, name string) (sallyport.Run, error) {
	if number, err := strconv.ParseInt(name, 10, 64); err == nil {
		return tx.Runs().ByNumber(p, number)
	}
	return tx.Runs().Get(sallyport.RunID(name))
}

// runID is the id of the run that is called so; the name where there is none.
func (e *Engine) runID(ctx context.Context, p sallyport.ProjectID, name sallyport.RunID) (sallyport.RunID, error) {
	if name == "" {
		return "", nil
	}
	var r sallyport.Run
	err := e.view(ctx, func(tx sallyport.Tx) (err error) {
		r, err = runCalled(tx, p, string(name))
		return err
	})
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		return name, nil
	}
	return r.ID, err
}

// feeds refuses an artifact that a run of a lower tier made.
func feeds(a sallyport.Artifact, r sallyport.Run) error {
	if a.Tier.Covers(r.Tier) {
		return nil
	}
	return sallyport.Errorf(sallyport.CodeDenied, "artifact %q is of tier %s, this run of tier %s: it takes nothing of a run that is trusted less", a.Name, a.Tier, r.Tier).
		WithHint("let a run of the same branch make it, or read it in a workflow that has no more rights than who made it")
}

// mayReadRun says whether a job may read what another run made: that is of its project, and
// the job has "actions: read", as GitHub wants it of the token.
func (e *Engine) mayReadRun(ctx context.Context, l sallyport.LeaseRef, r sallyport.Run, run sallyport.RunID) error {
	return e.holding(ctx, l, func(c *change, _ sallyport.Work, j sallyport.Job) error {
		s, err := e.loadSettlement(c, j.Run)
		if err != nil {
			return err
		}
		f, pj, err := s.home(j.ID)
		if err != nil {
			return err
		}
		granted := false
		for _, access := range []string{"read", "write"} {
			ok, err := f.grants(pj, "actions", access)
			if err != nil {
				return err
			}
			granted = granted || ok
		}
		if !granted {
			return sallyport.Errorf(sallyport.CodeDenied, "the job may not read what other runs made: it lacks actions: read").
				WithHint("add it to the permissions of the job and of the jobs that call its workflow")
		}
		from, err := c.Runs().Get(run)
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound || err == nil && from.Project != r.Project {
			return sallyport.Errorf(sallyport.CodeNotFound, "the project has no run %.40q", run).WithHint("run-id is what the run knows as github.run_id, such as github.event.workflow_run.id")
		}
		return err
	})
}

// recordTaken writes down what a job took from another run, before it gets it.
func (e *Engine) recordTaken(ctx context.Context, l sallyport.LeaseRef, a sallyport.Artifact, attempt int) error {
	return e.holding(ctx, l, func(c *change, _ sallyport.Work, j sallyport.Job) error {
		list, err := c.takenBy(j.ID)
		if err != nil {
			return err
		}
		if len(list) >= maxTaken {
			return sallyport.Errorf(sallyport.CodeInvalid, "the job took %d artifacts of other runs", maxTaken).WithHint("take fewer, or pack them into one")
		}
		return c.record(actionTaken, "job/"+string(j.ID), taken{a.Run, a.ID, a.Name, a.Digest, a.Tier, attempt})
	})
}

const actionTaken = "artifact.taken"

func takenBy(tx sallyport.Tx, id sallyport.JobID) ([]taken, error) {
	records, err := tx.Audit().List(sallyport.AuditFilter{Action: actionTaken, Object: "job/" + string(id), Limit: maxTaken})
	if err != nil {
		return nil, err
	}
	var out []taken
	for _, r := range records {
		var t taken
		if err := json.Unmarshal(r.Detail, &t); err != nil {
			return nil, fmt.Errorf("read what a job took: %w", err)
		}
		out = append(out, t)
	}
	return out, nil
}

func (c *change) takenBy(id sallyport.JobID) ([]taken, error) { return takenBy(c.Tx, id) }

// takenResources are the artifacts of other runs, as the provenance names them.
func (e *Engine) takenResources(list []taken, attempt int) (out []attest.Resource) {
	for _, t := range list {
		x := attest.Resource{
			Name: "artifact", URI: e.instance.Run(t.Run) + "/artifacts/" + string(t.Artifact), Digest: attest.SHA256(t.Digest),
			Annotations: map[string]string{"tier": string(t.Tier), "run": e.instance.Run(t.Run), "name": t.Name},
		}
		if t.Attempt == attempt && !slices.ContainsFunc(out, func(o attest.Resource) bool { return o.URI == x.URI }) {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b attest.Resource) int { return strings.Compare(a.URI, b.URI) })
	return out
}

// openArtifact returns the content as a tar.
func (e *Engine) openArtifact(ctx context.Context, a sallyport.Artifact) (sallyport.Artifact, io.ReadCloser, error) {
	blob, err := e.blobs.Get(ctx, a.Scope(), a.Digest)
	if err != nil {
		return a, nil, err
	}
	if a.MediaType == "application/x-tar" {
		return a, blob, nil
	}
	pr, pw := io.Pipe()
	go func() {
		defer blob.Close()
		pw.CloseWithError(wrapInTar(pw, blob, a))
	}()
	return a, pr, nil
}

// Artifacts lists what GetArtifact would give.
func (y yard) Artifacts(ctx context.Context, l sallyport.LeaseRef, run sallyport.RunID) ([]sallyport.Artifact, error) {
	if err := y.e.allow(ctx, actYard, ""); err != nil {
		return nil, err
	}
	_, r, err := y.e.peek(ctx, l)
	if err != nil {
		return nil, err
	}
	if run, err = y.e.runID(ctx, r.Project, run); err != nil {
		return nil, err
	}
	if run == "" || run == r.ID {
		run = r.ID
	} else if err := y.e.mayReadRun(ctx, l, r, run); err != nil {
		return nil, err
	}
	var out []sallyport.Artifact
	err = y.e.view(ctx, func(tx sallyport.Tx) error {
		all, err := tx.Artifacts().ByRun(run)
		for _, a := range all {
			if feeds(a, r) == nil {
				a.Files = nil
				out = append(out, a)
			}
		}
		if err == nil && len(out) == 0 && len(all) > 0 {
			return feeds(all[0], r) // an empty list would not say why
		}
		return err
	})
	slices.SortFunc(out, func(a, b sallyport.Artifact) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

// DeleteArtifact frees a name of the run. What was signed of the content stays.
func (y yard) DeleteArtifact(ctx context.Context, l sallyport.LeaseRef, name string) (a sallyport.Artifact, err error) {
	if err := y.e.allow(ctx, actYard, ""); err != nil {
		return a, err
	}
	err = y.e.holding(ctx, l, func(c *change, _ sallyport.Work, j sallyport.Job) error {
		if a, err = c.Artifacts().Find(j.Run, name); err != nil {
			return err
		}
		if err := c.Artifacts().Delete(a.ID); err != nil {
			return err
		}
		c.Touch(topicRun(a.Run))
		return c.record("artifact.deleted", "artifact/"+string(a.ID), map[string]any{
			"run": a.Run, "job": a.Job, "name": a.Name, "digest": a.Digest, "by": j.ID,
		})
	})
	return a, err
}
