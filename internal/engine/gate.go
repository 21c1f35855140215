package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
	"github.com/sallyport-ci/sallyport/internal/environment"
	"github.com/sallyport-ci/sallyport/internal/policy"
)

// gates implements sallyport.Gates.
type gates struct{ e *Engine }

const gateName = "default"

// isolationLevels whose builds a gate may accept. A job that was not isolated
// has a builder id of its own, which is not among them.
var isolationLevels = []string{"standard", "strong"}

// afterRun enqueues what may follow a completed run: workflows that wait for it,
// and the gate of one that may lead to a deployment.
func (e *Engine) afterRun(c *change, p sallyport.Project, r sallyport.Run) error {
	if err := c.enqueue(sallyport.QueueFollow, string(r.ID), nil, c.now, stageAttempts); err != nil {
		return err
	}
	if e.target == nil || r.Conclusion != sallyport.Success || r.Ref != p.DefaultRef() || r.Event != "push" {
		return nil
	}
	return c.enqueue(sallyport.QueueGate, string(r.ID), nil, c.now, stageAttempts)
}

// gate is the stage that judges what a successful run of the protected branch
// made, once for each environment that wants it.
func (e *Engine) gate(ctx context.Context, w sallyport.Work) error {
	var r sallyport.Run
	var made []sallyport.Artifact
	if err := e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		if r, err = tx.Runs().Get(sallyport.RunID(w.Subject)); err != nil {
			return err
		}
		made, err = tx.Artifacts().ByRun(r.ID)
		return err
	}); err != nil {
		return err
	}
	specs, err := e.environments(ctx, r.Project, r.Commit)
	if err != nil {
		return err
	}
	var judged []judgement
	for _, spec := range specs {
		i := slices.IndexFunc(made, func(a sallyport.Artifact) bool { return a.Name == spec.Artifact })
		if i < 0 || spec.Artifact == "" || spec.Workflow != r.Workflow {
			continue
		}
		j, err := e.judge(ctx, made[i], spec)
		if err != nil {
			return err
		}
		judged = append(judged, j)
	}
	return e.finish(ctx, w, func(c *change) error {
		for _, j := range judged {
			if j.overtaken, err = c.overtaken(j); err != nil {
				return err
			}
			if _, err := c.keepJudgement(j); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *Engine) gateFailed(ctx context.Context, w sallyport.Work, cause error) error {
	return e.finish(ctx, w, func(c *change) error {
		return c.record("gate.failed", "run/"+w.Subject, map[string]string{"cause": userText(cause)})
	})
}

// environments reads the environments that are declared at a commit of the protected branch.
func (e *Engine) environments(ctx context.Context, p sallyport.ProjectID, commit string) ([]sallyport.EnvironmentSpec, error) {
	d, err := e.declared(ctx, p, commit)
	return d.Environments, err
}

// declared reads all declarations at a commit of the protected branch.
func (e *Engine) declared(ctx context.Context, p sallyport.ProjectID, commit string) (environment.Declared, error) {
	src, err := e.repos.ReadFile(ctx, p, commit, environment.File, environment.MaxBytes)
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		return environment.Declared{}, nil
	}
	if err != nil {
		return environment.Declared{}, err
	}
	d, diags := environment.Read(src)
	for _, wrong := range diags {
		if wrong.Severity == "error" {
			return environment.Declared{}, sallyport.Errorf(sallyport.CodeInvalid, "%s", wrong.String())
		}
	}
	return d, nil
}

// judgement is a verdict with what follows from it, before it is kept.
type judgement struct {
	verdict   sallyport.Verdict
	artifact  sallyport.Artifact
	run       sallyport.Run
	spec      sallyport.EnvironmentSpec
	statement sallyport.Statement
	overtaken string                   // why it does not go out although it may; "" when it does
	ask       *sallyport.AccessRequest // that it waits for; nil when it needs none
	approvals []policy.EvidenceApproval
}

// judge assembles the evidence about an artifact, evaluates the gate and has the
// verdict signed. It keeps nothing.
func (e *Engine) judge(ctx context.Context, a sallyport.Artifact, spec sallyport.EnvironmentSpec) (judgement, error) {
	return e.judgeWith(ctx, a, spec, nil)
}

// judgeWith is judge when people have said yes.
func (e *Engine) judgeWith(ctx context.Context, a sallyport.Artifact, spec sallyport.EnvironmentSpec, approvals []policy.EvidenceApproval) (judgement, error) {
	j := judgement{artifact: a, spec: spec, approvals: approvals}
	if e.notary == nil {
		return j, sallyport.Errorf(sallyport.CodeUnavailable, "this instance does not sign, so it cannot judge")
	}
	doc, err := e.evidence(ctx, &j)
	if err != nil {
		return j, err
	}
	bound, err := boundOf(doc)
	if err != nil {
		return j, err
	}
	doc.Approvals = j.approvals
	input, digest, err := doc.Encode()
	if err != nil {
		return j, err
	}
	source := policy.DefaultGate()
	outcome, err := e.gates.Judge(ctx, source, input)
	if err != nil {
		return j, err
	}
	now := e.now()
	j.verdict = sallyport.Verdict{
		ID: sallyport.NewID[sallyport.VerdictID](now), Project: a.Project, Run: a.Run, Gate: gateName, Environment: spec.Name,
		Subject: a.Digest, Artifact: a.Name, Decision: outcome.Decision, Reasons: outcome.Reasons,
		PolicyDigest: sallyport.DigestOf(source), InputDigest: digest, Policy: source, Input: input, At: now,
	}
	if j.approvals == nil && (outcome.Decision == sallyport.Ask || outcome.Decision == sallyport.Allow && spec.Holds()) {
		if j.ask, err = e.askFor(ctx, j, bound); err != nil {
			return j, err
		}
	}
	return j, e.signVerdict(ctx, &j, doc)
}

// evidence assembles all that is known about the artifact, every statement
// verified anew and the content read anew.
func (e *Engine) evidence(ctx context.Context, j *judgement) (policy.Evidence, error) {
	var p sallyport.Project
	var statements []sallyport.Statement
	var uses []sallyport.CacheUse
	var doors []sallyport.Door
	var plan *sallyport.Plan
	var others []otherJob
	if err := e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		if p, err = tx.Projects().Get(j.artifact.Project); err != nil {
			return err
		}
		if j.run, err = tx.Runs().Get(j.artifact.Run); err != nil {
			return err
		}
		if uses, err = tx.Caches().Uses(j.run.ID); err != nil {
			return err
		}
		if plan, doors, err = runDoors(tx, j.run.ID); err != nil {
			return err
		}
		if j.spec.SealedSource {
			if others, err = otherJobs(tx, j.artifact); err != nil {
				return err
			}
		}
		statements, err = tx.Statements().BySubject(p.ID, j.artifact.Digest)
		return err
	}); err != nil {
		return policy.Evidence{}, err
	}
	content := "verified"
	if err := e.readContent(ctx, j.artifact); err != nil {
		if code := sallyport.ErrorCode(err); code == sallyport.CodeUnavailable {
			return policy.Evidence{}, err
		}
		content = userText(err)
	}
	refs, err := e.repos.Refs(ctx, p.ID)
	if err != nil {
		return policy.Evidence{}, err
	}
	on, err := e.repos.Contains(ctx, p.ID, refs[p.DefaultRef()], j.run.Commit)
	if err != nil {
		on = false // what cannot be shown is not so
	}
	doc := policy.Evidence{
		Version: 1, Now: e.now().Format(time.RFC3339),
		Project:     policy.EvidenceProject{ID: string(p.ID), Name: p.Name, ProtectedRef: p.DefaultRef()},
		Environment: policy.EvidenceEnvironment{Name: j.spec.Name, Artifact: j.spec.Artifact, Workflow: j.spec.Workflow, Approval: j.spec.Approval, Approvals: j.spec.Votes(), SealedSource: j.spec.SealedSource},
		Subject:     policy.EvidenceSubject{Name: j.artifact.Name, Digest: string(j.artifact.Digest), Size: j.artifact.Size, Tier: j.artifact.Tier, Content: content},
		Expected:    policy.EvidenceExpected{Issuer: e.instance.Issuer(), Identity: e.instance.BuildIdentity(p.Name, j.spec.Workflow, p.DefaultRef())},
		Run: policy.EvidenceRun{ID: string(j.run.ID), Conclusion: string(j.run.Conclusion), Commit: j.run.Commit, Ref: j.run.Ref,
			Event: j.run.Event, Workflow: j.run.Workflow, OnProtected: on, Restored: restored(uses)},
		Statements: []policy.EvidenceStatement{},
	}
	if doc.Run.Sources, err = e.sources(ctx, others, p.ID); err != nil {
		return policy.Evidence{}, err
	}
	doc.Run.Network, doc.Run.Packages = reached(plan, doors)
	for _, l := range isolationLevels {
		doc.Expected.Builders = append(doc.Expected.Builders, e.instance.BuilderID(l))
	}
	for _, st := range weighed(statements, j.run.ID) {
		doc.Statements = append(doc.Statements, e.weigh(st, j.artifact.Digest))
	}
	return doc, nil
}

// otherJob is a job of an artifact's run that did not make it.
type otherJob struct {
	sallyport.Job
	makes bool // has an artifact that is kept
}

// otherJobs returns those whose artifacts may be within an artifact. One that has none any more is
// among them: a later job may have removed what it was given.
func otherJobs(tx sallyport.Tx, a sallyport.Artifact) ([]otherJob, error) {
	made, err := tx.Artifacts().ByRun(a.Run)
	if err != nil {
		return nil, err
	}
	jobs, err := tx.Jobs().Outline(a.Run)
	var out []otherJob
	for _, j := range jobs {
		if j.ID != a.Job {
			out = append(out, otherJob{j, slices.ContainsFunc(made, func(m sallyport.Artifact) bool { return m.Job == j.ID })})
		}
	}
	return out, err
}

// sources tells what jobs did to their source before they made artifacts. Of a job whose artifacts were
// all removed its trace says that it made one, when it had edited something.
func (e *Engine) sources(ctx context.Context, jobs []otherJob, p sallyport.ProjectID) ([]policy.EvidenceSource, error) {
	var out []policy.EvidenceSource
	for _, j := range jobs {
		if !j.makes && j.Trace == "" {
			continue
		}
		t, err := e.trace(ctx, j.Job, p)
		s := policy.EvidenceSource{Job: j.Key, Seen: err == nil}
		if code := sallyport.ErrorCode(err); err != nil && code != sallyport.CodeNotFound {
			return nil, err
		}
		for _, c := range t.Changes {
			if c.Artifact != "" {
				s.Changed++
			}
		}
		if j.makes || !s.Seen || s.Changed > 0 {
			out = append(out, s)
		}
	}
	return out, nil
}

// restored are the entries that any job of a run restored, each once: also one
// whose artifact this is not may have handed something on.
func restored(uses []sallyport.CacheUse) []policy.EvidenceCache {
	out := []policy.EvidenceCache{}
	for _, u := range uses {
		c := policy.EvidenceCache{ID: string(u.Entry.ID), Digest: string(u.Entry.Digest), Tier: u.Entry.Tier, Ref: u.Entry.Ref}
		if u.Outcome == sallyport.CacheRestored && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// bearing are the types of the statements that a gate weighs.
var bearing = []string{sallyport.PredicateProvenance, sallyport.PredicateVSA, sallyport.PredicateTrace}

// weighed are the statements about a digest that bear on the run's claim to it.
// Content that never changes is made and deployed again and again; what was
// said of it on other occasions must not grow into a document that no gate can read.
func weighed(all []sallyport.Statement, run sallyport.RunID) []sallyport.Statement {
	var out []sallyport.Statement
	words := 0
	for _, st := range all {
		switch {
		case st.Run != run:
		case st.AssertedByJob():
			if words++; words <= maxWords {
				out = append(out, st)
			}
		case slices.Contains(bearing, st.PredicateType):
			out = append(out, st)
		}
	}
	return out
}

const (
	// maxWords bounds the statements of jobs that a gate is shown, and maxWord the predicate
	// of one that it can read: what jobs say must not make the document unreadable.
	maxWords = 50
	maxWord  = 32 << 10
)

func (e *Engine) weigh(st sallyport.Statement, subject sallyport.Digest) policy.EvidenceStatement {
	out := policy.EvidenceStatement{
		ID: string(st.ID), PredicateType: st.PredicateType, Identity: st.Identity, Issuer: e.instance.Issuer(),
		Bundle: string(st.BundleDigest), Predicate: rawObject(nil),
	}
	if st.AssertedByJob() {
		out.AssertedBy = attest.AssertedByJob
	}
	c, err := e.check(st, subject)
	if err != nil {
		out.Problem = userText(err)
		return out
	}
	out.Verified, out.Predicate = true, rawObject(c.Predicate)
	if st.AssertedByJob() && len(c.Predicate) > maxWord {
		out.Predicate = rawObject(nil)
	}
	return out
}

// signVerdict has the verdict signed as a SLSA verification summary.
func (e *Engine) signVerdict(ctx context.Context, j *judgement, doc policy.Evidence) error {
	in := attest.VSAInput{
		Verifier: e.instance.GateIdentity(), At: j.verdict.At,
		Resource: e.resource(j.verdict),
		Policy:   attest.Resource{Name: gateName, Digest: attest.SHA256(j.verdict.PolicyDigest)},
		Passed:   j.verdict.Decision == sallyport.Allow,
	}
	if in.Passed {
		in.Levels = []string{"SLSA_BUILD_LEVEL_2"}
	}
	for _, s := range doc.Statements {
		if d, err := sallyport.ParseDigest(s.Bundle); err == nil {
			in.Inputs = append(in.Inputs, attest.Resource{Name: s.PredicateType, Digest: attest.SHA256(d)})
		}
	}
	statement, err := attest.VSA([]attest.Subject{{Name: j.artifact.Filename, Digest: j.artifact.Digest}}, in)
	if err != nil {
		return err
	}
	j.statement, err = e.sign(ctx, e.gateSigner(), statement, sallyport.Statement{
		Project: j.artifact.Project, Run: j.run.ID, PredicateType: sallyport.PredicateVSA, Subjects: []sallyport.Digest{j.artifact.Digest},
	})
	return err
}

// resource names what a verdict is about: an artifact of a run, on its way to an environment.
func (e *Engine) resource(v sallyport.Verdict) string {
	return e.instance.Run(v.Run) + "/artifacts/" + url.PathEscape(v.Artifact) + "?environment=" + url.QueryEscape(v.Environment)
}

// summarises reports whether a verified summary says that this verdict allowed its artifact.
func (e *Engine) summarises(predicate []byte, v sallyport.Verdict) bool {
	var p struct {
		TimeVerified string `json:"timeVerified"`
		ResourceURI  string `json:"resourceUri"`
		Policy       struct {
			Digest map[string]string `json:"digest"`
		} `json:"policy"`
		VerificationResult string `json:"verificationResult"`
	}
	return json.Unmarshal(predicate, &p) == nil && p.VerificationResult == "PASSED" && p.ResourceURI == e.resource(v) &&
		p.Policy.Digest["sha256"] == v.PolicyDigest.Hex() && p.TimeVerified == v.At.UTC().Format(time.RFC3339)
}

func (e *Engine) gateSigner() attest.Identity {
	return attest.Identity{SAN: e.instance.GateIdentity(), BuildSigner: e.instance.GateIdentity()}
}

func (c *change) keepVerdict(j judgement) error {
	if err := c.Verdicts().Insert(j.verdict); err != nil {
		return err
	}
	if err := c.record("gate.decided", "verdict/"+string(j.verdict.ID), map[string]any{
		"environment": j.verdict.Environment, "subject": j.verdict.Subject, "decision": j.verdict.Decision,
		"policy": j.verdict.PolicyDigest, "input": j.verdict.InputDigest,
	}); err != nil {
		return err
	}
	c.Touch(topicRun(j.verdict.Run))
	return c.keepStatement(j.statement)
}

// keepJudgement keeps the verdict and what it leads to: a release on its way
// to the environment, or a deployment that was refused, so that people see it.
func (c *change) keepJudgement(j judgement) (sallyport.Deployment, error) {
	p, err := c.Projects().Get(j.artifact.Project)
	if err != nil {
		return sallyport.Deployment{}, err
	}
	if err := unstopped(c.Tx, sallyport.StopProject, p.Name); err != nil {
		return sallyport.Deployment{}, err
	}
	if err := c.keepVerdict(j); err != nil {
		return sallyport.Deployment{}, err
	}
	rel := sallyport.Release{
		ID: newID[sallyport.ReleaseID](c), Project: j.artifact.Project, Run: j.run.ID, Artifact: j.artifact.Name,
		ArtifactID: j.artifact.ID, Digest: j.artifact.Digest, Commit: j.run.Commit, Verdict: j.verdict.ID, CreatedAt: c.now,
	}
	if err := c.Releases().Insert(rel); err != nil {
		return sallyport.Deployment{}, err
	}
	if j.ask != nil && j.overtaken == "" {
		return c.holdRelease(rel, j)
	}
	if j.verdict.Decision != sallyport.Allow {
		why := fmt.Sprintf("the gate said %s: %s", j.verdict.Decision, j.verdict.Reasons[0])
		return c.newDeployment(rel, j.spec, sallyport.DeployRefused, why, "")
	}
	if j.overtaken != "" {
		return c.newDeployment(rel, j.spec, sallyport.DeploySuperseded, j.overtaken, "")
	}
	return c.newDeployment(rel, j.spec, sallyport.DeployPending, "", "")
}

// overtaken says which deployment of a later push its environment has already, or
// is getting; "" when there is none. Runs of one branch end in any order, and a slow
// one must not bring back what a later push has replaced. Who asks for an older
// release by hand gets it.
func (c *change) overtaken(j judgement) (string, error) {
	rivals, err := c.Deployments().Unfinished()
	if err != nil {
		return "", err
	}
	env, err := c.Environments().Get(j.artifact.Project, j.spec.Name)
	switch {
	case err == nil && env.Live != "":
		live, err := c.Deployments().Get(env.Live)
		if err != nil {
			return "", err
		}
		rivals = append(rivals, live)
	case err != nil && sallyport.ErrorCode(err) != sallyport.CodeNotFound:
		return "", err
	}
	for _, d := range rivals {
		if d.Project != j.artifact.Project || d.Environment != j.spec.Name {
			continue
		}
		rel, err := c.Releases().Get(d.Release)
		if err != nil {
			return "", err
		}
		r, err := c.Runs().Get(rel.Run)
		if err != nil {
			return "", err
		}
		if r.Push > j.run.Push { // ids of pushes are in the order of the pushes
			return fmt.Sprintf("#%d, of a later push, came before it", d.Number), nil
		}
	}
	return "", nil
}

func (s gates) Verdicts(ctx context.Context, p sallyport.ProjectID, page sallyport.Page) ([]sallyport.Verdict, error) {
	if err := s.e.allow(ctx, actRead, p); err != nil {
		return nil, err
	}
	var out []sallyport.Verdict
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		out, err = tx.Verdicts().List(p, bound(page))
		return err
	})
	return out, err
}

func (s gates) Verdict(ctx context.Context, id sallyport.VerdictID) (sallyport.Verdict, error) {
	return s.verdict(ctx, actRead, id)
}

func (s gates) verdict(ctx context.Context, a action, id sallyport.VerdictID) (sallyport.Verdict, error) {
	return load(ctx, s.e, a, func(tx sallyport.Tx) (sallyport.Verdict, sallyport.ProjectID, error) {
		v, err := tx.Verdicts().Get(id)
		return v, v.Project, err
	})
}

// Replay decides again from the kept document, with the kept policy or another.
func (s gates) Replay(ctx context.Context, id sallyport.VerdictID, source string) (sallyport.Verdict, error) {
	v, err := s.verdict(ctx, actRead, id)
	if err != nil {
		return v, err
	}
	if sallyport.DigestOf(v.Input) != v.InputDigest || sallyport.DigestOf(v.Policy) != v.PolicyDigest {
		return v, sallyport.Errorf(sallyport.CodeConflict, "the kept inputs of verdict %s were altered", id).WithHint("run sallyport audit verify")
	}
	if source != "" {
		v.Policy = []byte(source)
		v.PolicyDigest = sallyport.DigestOf(v.Policy)
	}
	outcome, err := s.e.gates.Judge(ctx, v.Policy, v.Input)
	if err != nil {
		return v, err
	}
	v.Decision, v.Reasons, v.At = outcome.Decision, outcome.Reasons, s.e.now()
	return v, nil
}

func (s gates) Judge(ctx context.Context, id sallyport.ArtifactID, env string) (sallyport.Verdict, error) {
	a, spec, err := s.e.destination(ctx, id, env)
	if err != nil {
		return sallyport.Verdict{}, err
	}
	j, err := s.e.judge(ctx, a, spec)
	if err != nil {
		return sallyport.Verdict{}, err
	}
	return j.verdict, s.e.update(ctx, func(c *change) error { return c.keepVerdict(j) })
}

// destination finds an artifact and the environment that is declared for its
// project on the tip of the protected branch.
func (e *Engine) destination(ctx context.Context, id sallyport.ArtifactID, env string) (sallyport.Artifact, sallyport.EnvironmentSpec, error) {
	a, err := loadFor(ctx, e, actDeploy, env, func(tx sallyport.Tx) (sallyport.Artifact, sallyport.ProjectID, error) {
		a, err := tx.Artifacts().Get(id)
		return a, a.Project, err
	})
	if err != nil {
		return a, sallyport.EnvironmentSpec{}, err
	}
	p, err := e.project(ctx, a.Project)
	if err != nil {
		return a, sallyport.EnvironmentSpec{}, err
	}
	refs, err := e.repos.Refs(ctx, p.ID)
	if err != nil {
		return a, sallyport.EnvironmentSpec{}, err
	}
	specs, err := e.environments(ctx, p.ID, refs[p.DefaultRef()])
	if err != nil {
		return a, sallyport.EnvironmentSpec{}, err
	}
	for _, s := range specs {
		if s.Name == env && s.Artifact != "" {
			return a, s, nil
		}
	}
	return a, sallyport.EnvironmentSpec{}, sallyport.Errorf(sallyport.CodeNotFound, "no environment %.80q is declared on %s", env, p.DefaultBranch).
		WithHint("declare it in %s on %s", environment.File, p.DefaultBranch)
}
