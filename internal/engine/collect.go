package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
)

// maxNamedFiles is how many files of an artifact its provenance names one by
// one; beyond, the archive's digest stands for them.
const maxNamedFiles = 500

// collect is the stage that turns what a job left behind into evidence, and
// completes the job. The provenance is built here, from Plan and Lease: only
// names of subjects come from the job.
func (e *Engine) collect(ctx context.Context, w sallyport.Work) error {
	var in collected
	if err := e.view(ctx, func(tx sallyport.Tx) error { return in.load(tx, sallyport.JobID(w.Subject)) }); err != nil {
		return err
	}
	if in.job.Status == sallyport.StatusCompleted {
		return e.finish(ctx, w, func(*change) error { return nil })
	}
	if _, err := e.logs.Size(ctx, attemptLog(in.job)); err != nil { // makes the log durable before the job counts as done
		return err
	}
	statements, err := e.attestArtifacts(ctx, in)
	if err != nil {
		return err
	}
	seen, err := e.attestTrace(ctx, in)
	if err != nil {
		return fmt.Errorf("attest what was seen of the job: %w", err)
	}
	statements = append(statements, seen...)
	return e.finish(ctx, w, func(c *change) error {
		for _, st := range statements {
			if err := c.keepStatement(st); err != nil {
				return err
			}
		}
		j, err := c.Jobs().Get(in.job.ID)
		if err != nil {
			return err
		}
		return e.jobEnded(c, &j, j.Conclusion, j.Cause)
	})
}

// collectFailed ends a job whose evidence could not be made: missing evidence is a failure.
func (e *Engine) collectFailed(ctx context.Context, w sallyport.Work, cause error) error {
	return e.finish(ctx, w, func(c *change) error {
		j, err := c.Jobs().Get(sallyport.JobID(w.Subject))
		if err != nil {
			return err
		}
		return e.jobEnded(c, &j, sallyport.Failure, "its evidence could not be made: "+userText(cause))
	})
}

// collected is what is known about a finished job.
type collected struct {
	job       sallyport.Job
	run       sallyport.Run
	push      sallyport.Push
	project   sallyport.Project
	plan      *sallyport.Plan
	artifacts []sallyport.Artifact
	attested  map[sallyport.Digest]bool // have a provenance of this run already
	restored  []sallyport.CacheEntry    // by this attempt of the job
	door      sallyport.DoorRecord      // likewise
	taken     []taken                   // of other runs
}

func (in *collected) load(tx sallyport.Tx, id sallyport.JobID) error {
	var err error
	if in.job, err = tx.Jobs().Get(id); err != nil {
		return err
	}
	if in.run, err = tx.Runs().Get(in.job.Run); err != nil {
		return err
	}
	if in.push, err = tx.Pushes().Get(in.run.Push); err != nil {
		return err
	}
	if in.project, err = tx.Projects().Get(in.run.Project); err != nil {
		return err
	}
	encoded, err := tx.Runs().Plan(in.run.ID)
	if err != nil {
		return err
	}
	if in.plan, err = decodePlan(encoded); err != nil {
		return err
	}
	all, err := tx.Artifacts().ByRun(in.run.ID)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Job == in.job.ID {
			in.artifacts = append(in.artifacts, a)
		}
	}
	if in.taken, err = takenBy(tx, in.job.ID); err != nil {
		return err
	}
	uses, err := tx.Caches().Uses(in.run.ID)
	if err != nil {
		return err
	}
	for _, u := range uses {
		if u.Job == in.job.ID && u.Attempt == in.job.Attempt && u.Outcome == sallyport.CacheRestored {
			in.restored = append(in.restored, u.Entry)
		}
	}
	entries, err := tx.Doors().ByRun(in.run.ID)
	if err != nil {
		return err
	}
	in.door = doorOf(entries, in.job)
	statements, err := tx.Statements().ByRun(in.run.ID)
	in.attested = make(map[sallyport.Digest]bool)
	for _, s := range statements {
		if s.PredicateType == sallyport.PredicateProvenance && !s.AssertedByJob() && len(s.Subjects) > 0 {
			in.attested[s.Subjects[0]] = true
		}
	}
	return err
}

// attestArtifacts signs a provenance for each artifact of a job that
// succeeded, side by side: most of a signature's time is waiting for the log.
func (e *Engine) attestArtifacts(ctx context.Context, in collected) ([]sallyport.Statement, error) {
	if e.notary == nil || in.job.Conclusion != sallyport.Success {
		return nil, nil
	}
	out := make([]sallyport.Statement, len(in.artifacts))
	errs := make([]error, len(in.artifacts))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	for i, a := range in.artifacts {
		if in.attested[a.Digest] { // content that a job hands in many times is vouched for once
			continue
		}
		in.attested[a.Digest] = true
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			out[i], errs[i] = e.attestArtifact(ctx, in, a)
		})
	}
	wg.Wait()
	var kept []sallyport.Statement
	for i := range out {
		if errs[i] != nil {
			return nil, fmt.Errorf("attest artifact %s: %w", in.artifacts[i].Name, errs[i])
		}
		if out[i].ID != "" {
			kept = append(kept, out[i])
		}
	}
	return kept, nil
}

func (e *Engine) attestArtifact(ctx context.Context, in collected, a sallyport.Artifact) (sallyport.Statement, error) {
	subjects := []attest.Subject{{Name: a.Filename, Digest: a.Digest}}
	if len(a.Files) > 1 && len(a.Files) <= maxNamedFiles {
		for _, f := range a.Files {
			subjects = append(subjects, attest.Subject{Name: f.Path, Digest: f.Digest})
		}
	}
	statement, err := attest.Provenance(subjects, e.provenance(in))
	if err != nil {
		return sallyport.Statement{}, err
	}
	return e.sign(ctx, e.builderIdentity(in), statement, sallyport.Statement{
		Project: in.project.ID, Run: in.run.ID, PredicateType: sallyport.PredicateProvenance, Subjects: digests(subjects),
	})
}

func digests(subjects []attest.Subject) []sallyport.Digest {
	var out []sallyport.Digest
	for _, s := range subjects {
		out = append(out, s.Digest)
	}
	return out
}

// sign has a statement signed and logged and fills in st.
func (e *Engine) sign(ctx context.Context, id attest.Identity, statement []byte, st sallyport.Statement) (sallyport.Statement, error) {
	now := e.now()
	if err := e.view(ctx, func(tx sallyport.Tx) error { return unstopped(tx, sallyport.StopKey, sallyport.KeySigning) }); err != nil {
		return st, err
	}
	bundle, index, err := e.notary.Sign(ctx, now, id, statement)
	if err != nil {
		return st, err
	}
	st.ID = sallyport.NewID[sallyport.StatementID](now)
	st.Identity, st.LogIndex, st.Bundle, st.BundleDigest, st.CreatedAt = id.SAN, index, bundle, sallyport.DigestOf(bundle), now
	return st, nil
}

func (c *change) keepStatement(st sallyport.Statement) error {
	if err := c.Statements().Insert(st); err != nil {
		return err
	}
	return c.record("statement.signed", "statement/"+string(st.ID), map[string]any{
		"subject": st.Subjects[0], "subjects": len(st.Subjects), "predicate": st.PredicateType, "identity": st.Identity,
		"log_index": st.LogIndex, "bundle": st.BundleDigest,
	})
}

// builderIdentity is the certificate under which the control plane vouches for a build.
func (e *Engine) builderIdentity(in collected) attest.Identity {
	source := e.instance.BuildIdentity(in.project.Name, in.run.Workflow, in.run.Ref)
	return attest.Identity{
		SAN:               source,
		BuildSigner:       e.instance.BuilderID(in.level()),
		RunnerEnvironment: "self-hosted",
		SourceRepository:  e.instance.Repository(in.project.Name),
		SourceDigest:      in.run.Commit,
		SourceRef:         in.run.Ref,
		BuildConfig:       source,
		BuildConfigDigest: in.run.Commit,
		Trigger:           in.run.Event,
		RunInvocation:     e.instance.Run(in.run.ID),
	}
}

// level is the isolation the job was built under; a job that reported none was not isolated.
func (in collected) level() string {
	if in.job.Isolation == nil || in.job.Isolation.Level == "" {
		return "unknown"
	}
	return in.job.Isolation.Level
}

func (e *Engine) provenance(in collected) attest.ProvenanceInput {
	isolation := sallyport.Isolation{Level: in.level()}
	if in.job.Isolation != nil {
		isolation = *in.job.Isolation
	}
	repo := e.instance.Repository(in.project.Name)
	p := attest.ProvenanceInput{
		Builder:        e.instance.BuilderID(isolation.Level),
		BuilderVersion: map[string]string{"sallyport": e.version},
		External: attest.ExternalParameters{
			Workflow: attest.WorkflowSource{Repository: repo, Ref: in.run.Ref, Path: in.run.Workflow, Digest: attest.SHA256(in.plan.Workflow.Digest)},
			Event:    in.run.Event, Action: in.push.Action, Payload: attest.SHA256(sallyport.DigestOf(in.push.Payload)),
			Inputs: object(in.plan.Inputs), Job: in.job.Key, Matrix: object(in.job.Matrix), Variables: e.vars,
		},
		Internal: attest.InternalParameters{
			Plan: attest.SHA256(in.run.PlanDigest), Tier: in.run.Tier, Runner: string(in.job.Runner), Attempt: in.job.Attempt, Isolation: isolation,
		},
		Dependencies: []attest.Resource{{URI: "git+" + repo + "@" + in.run.Ref, Digest: attest.GitCommit(in.run.Commit)}},
		Invocation:   e.instance.Job(in.run.ID, in.job.ID),
		Started:      in.job.StartedAt,
		Finished:     e.now(),
	}
	for _, f := range in.plan.Files { // local actions and the like, read at plan time
		if f.Path != in.run.Workflow {
			p.Dependencies = append(p.Dependencies, attest.Resource{Name: f.Path, URI: "git+" + repo + "@" + in.run.Commit + "#" + f.Path, Digest: attest.SHA256(f.Digest)})
		}
	}
	for _, c := range in.restored {
		p.Dependencies = append(p.Dependencies, attest.Resource{
			Name: "cache", URI: e.instance.Cache(c.ID), Digest: attest.SHA256(c.Digest),
			Annotations: map[string]string{"tier": string(c.Tier), "ref": c.Ref, "run": e.instance.Run(c.Run)},
		})
	}
	p.Dependencies = append(p.Dependencies, e.takenResources(in.taken, in.job.Attempt)...)
	p.Dependencies = append(p.Dependencies, actionResources(in.plan)...)
	network, packages := in.network()
	p.Internal.Network = &network
	p.Dependencies = append(p.Dependencies, packages...)
	return p
}

// object returns raw when it is a JSON object, nothing for null.
func object(raw json.RawMessage) json.RawMessage {
	if t := bytes.TrimSpace(raw); len(t) > 2 && t[0] == '{' {
		return raw
	}
	return nil
}
