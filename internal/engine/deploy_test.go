package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
)

// openNotary signs by writing down who signs, and checks what it wrote.
type openNotary struct {
	mu    sync.Mutex
	index int64
}

type openBundle struct {
	Identity  string          `json:"identity"`
	Index     int64           `json:"index"`
	Statement json.RawMessage `json:"statement"`
}

func (n *openNotary) Sign(_ context.Context, _ time.Time, id attest.Identity, statement []byte) ([]byte, int64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.index++
	b, err := json.Marshal(openBundle{id.SAN, n.index, statement})
	return b, n.index, err
}

func (n *openNotary) Verify(bundle []byte, subject sallyport.Digest, identity, issuer string) (sallyport.Checked, error) {
	var b openBundle
	if err := json.Unmarshal(bundle, &b); err != nil {
		return sallyport.Checked{}, sallyport.Errorf(sallyport.CodeInvalid, "it is not a bundle")
	}
	var st struct {
		Subject       []struct{ Digest map[string]string }
		PredicateType string
		Predicate     json.RawMessage
	}
	if err := json.Unmarshal(b.Statement, &st); err != nil {
		return sallyport.Checked{}, sallyport.Errorf(sallyport.CodeInvalid, "it is not a statement")
	}
	for _, s := range st.Subject {
		if s.Digest["sha256"] == subject.Hex() && b.Identity == identity {
			return sallyport.Checked{Subject: subject, Identity: identity, Issuer: issuer, PredicateType: st.PredicateType, Predicate: st.Predicate, LogIndex: b.Index}, nil
		}
	}
	return sallyport.Checked{}, sallyport.Errorf(sallyport.CodeInvalid, "it is about something else")
}

// field is a target in memory: what runs, who has the traffic, and who is ill.
type field struct {
	mu      sync.Mutex
	runs    map[sallyport.DeploymentID]bool
	traffic sallyport.DeploymentID
	ill     map[sallyport.DeploymentID]string
	broken  map[sallyport.DeploymentID]error // what Apply says
	applied int
	checked func(d sallyport.Deployment) // with each check
	outages int                          // times at which what had the traffic did not run
}

func newField() *field {
	return &field{runs: make(map[sallyport.DeploymentID]bool), ill: make(map[sallyport.DeploymentID]string), broken: make(map[sallyport.DeploymentID]error)}
}

func (f *field) Apply(_ context.Context, d sallyport.Deployment, a sallyport.Artifact, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	if got, _, err := sallyport.DigestReader(r); err != nil || got != a.Digest {
		return fmt.Errorf("content: %s, %w", got, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied++
	if err := f.broken[d.ID]; err != nil {
		return err
	}
	f.runs[d.ID] = true
	return nil
}

func (f *field) Check(_ context.Context, d sallyport.Deployment) (sallyport.Health, error) {
	f.mu.Lock()
	why, runs := f.ill[d.ID], f.runs[d.ID]
	f.mu.Unlock()
	if !runs {
		why = "it does not run"
	}
	if f.checked != nil {
		f.checked(d)
	}
	return sallyport.Health{OK: why == "", Why: why}, nil
}

func (f *field) Shift(_ context.Context, _ sallyport.ProjectID, _ sallyport.EnvironmentSpec, weights map[sallyport.DeploymentID]int) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, percent := range weights {
		if !f.runs[id] || percent != 100 {
			return "", sallyport.Errorf(sallyport.CodeNotFound, "deployment %s does not run", id)
		}
		f.traffic = id
	}
	return "http://127.0.0.1:1", nil
}

func (f *field) Traffic(context.Context, sallyport.DeploymentID) (sallyport.Traffic, error) {
	return sallyport.Traffic{}, nil
}

func (f *field) Remove(_ context.Context, d sallyport.Deployment) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.runs, d.ID)
	if f.traffic == d.ID {
		f.outages++
	}
	return nil
}

func (f *field) List(context.Context) ([]sallyport.Instance, error) { return nil, nil }

func (f *field) Log(context.Context, sallyport.DeploymentID, int64) ([]byte, error) { return nil, nil }

// site is a house that deploys.
type site struct {
	*house
	f       *field
	n       *openNotary
	deploys string // the file that declares the environments
}

const deployWorkflow = "on: push\njobs:\n  build:\n    runs-on: ubuntu-latest\n    steps: [{run: make}]\n"

const deployFile = `environments:
  production:
    artifact: app
    workflow: .github/workflows/ci.yml
    port: 8080
    health: {path: /, interval: 50ms, healthy: 1, startup: 1s, watch: 1s, max_errors: 1}
`

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{f: newField(), n: &openNotary{}, deploys: deployFile}
	s.house = newHouse(t, func(c *Config) { c.Notary, c.Verifier, c.Target = s.n, s.n, s.f })
	return s
}

// build pushes to main and lets the job leave an artifact; what that leads to is worked but for watching.
func (s *site) build(content string) sallyport.RunID {
	s.t.Helper()
	s.pass(time.Second)
	push := s.push("main", files{workflowFile: deployWorkflow, ".sallyport/deploy.yaml": s.deploys, "content": content})
	l := s.lease()
	if l == nil {
		s.t.Fatal("there is no job to lease")
	}
	_, err := s.y.PutArtifact(s.runner, l.Ref, "app", bytes.NewReader(tarOf(s.t, tarFile{"app", content, 0o755})))
	check(s.t, err)
	check(s.t, s.y.Finish(s.runner, l.Ref, sallyport.JobResult{Conclusion: sallyport.Success, Isolation: &sallyport.Isolation{Level: "standard"}}))
	s.work()
	list, err := s.s.Runs.Runs(s.admin, sallyport.RunFilter{Push: push.ID})
	check(s.t, err)
	return list[0].ID
}

// deployments are oldest first.
func (s *site) deployments() []sallyport.Deployment {
	s.t.Helper()
	all, err := s.s.Deployments.Deployments(s.admin, s.p.ID, "production", sallyport.Page{})
	check(s.t, err)
	for i, k := 0, len(all)-1; i < k; i, k = i+1, k-1 {
		all[i], all[k] = all[k], all[i]
	}
	return all
}

// number returns the deployment #n.
func (s *site) number(n int) sallyport.Deployment {
	s.t.Helper()
	all := s.deployments()
	if n > len(all) {
		s.t.Fatalf("there are %d deployments, want #%d", len(all), n)
	}
	return all[n-1]
}

// standing wants the states in the order of the deployments, and the traffic at #traffic, which must run.
func (s *site) standing(traffic int, want ...sallyport.DeploymentState) {
	s.t.Helper()
	var got []string
	for _, d := range s.deployments() {
		got = append(got, string(d.State))
	}
	var wanted []string
	for _, w := range want {
		wanted = append(wanted, string(w))
	}
	if a, b := strings.Join(got, " "), strings.Join(wanted, " "); a != b {
		s.t.Fatalf("deployments are\n     %s\nwant %s", a, b)
	}
	if traffic > 0 {
		if id := s.number(traffic).ID; s.f.traffic != id || !s.f.runs[id] {
			s.t.Errorf("the traffic is not at #%d, or that does not run", traffic)
		}
	}
	if s.f.outages > 0 {
		s.t.Errorf("what had the traffic was removed %d times", s.f.outages)
	}
}

// watchOnce does all watching that is due now, each piece until its deployment is
// live and looked at, or gone. Time passes by a trial with each check.
func (s *site) watchOnce() {
	s.t.Helper()
	var due []sallyport.Work
	for {
		w, _, err := s.e.claim(s.t.Context(), sallyport.QueueWatch)
		check(s.t, err)
		if w == nil {
			break
		}
		due = append(due, *w)
	}
	for _, w := range due {
		s.watch(w)
	}
	s.f.checked = nil
}

func (s *site) watch(w sallyport.Work) {
	ctx, cancel := context.WithCancel(system(s.t.Context(), sallyport.QueueWatch))
	defer cancel()
	signal, stop := s.store.Watch(topicAudit)
	defer stop()
	ended := make(chan struct{})
	defer func() { <-ended }()
	go func() { // one that has become live is watched for ever
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signal:
			}
			if d, _, err := s.e.loadDeployment(ctx, sallyport.DeploymentID(w.Subject)); err != nil || d.State == sallyport.DeployLive {
				cancel()
			}
		}
	}()
	s.f.checked = func(d sallyport.Deployment) {
		s.pass(2 * time.Second)
		if d.State == sallyport.DeployLive && s.f.ill[d.ID] == "" && !strings.HasPrefix(d.Cause, unhealthyMark) {
			cancel()
		}
	}
	s.e.do(ctx, stage{sallyport.QueueWatch, 1, s.e.watch, s.e.watchFailed}, w)
	cancel()
}

// settled works until nothing changes any more: watching goes round often enough for each test.
func (s *site) settled() {
	s.t.Helper()
	for range 6 {
		s.work()
		s.watchOnce()
	}
	s.work()
}

const (
	pending    = sallyport.DeployPending
	applying   = sallyport.DeployApplying
	watching   = sallyport.DeployWatching
	live       = sallyport.DeployLive
	refused    = sallyport.DeployRefused
	failed     = sallyport.DeployFailed
	rolledBack = sallyport.DeployRolledBack
	superseded = sallyport.DeploySuperseded
)

func TestDeployGoesLive(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.build("one")
	s.standing(0, watching)
	s.settled()
	s.standing(1, live)
	env, err := s.s.Deployments.Environments(s.admin, s.p.ID)
	check(t, err)
	if len(env) != 1 || env[0].Live != s.number(1).ID || env[0].URL == "" || env[0].Previous != "" {
		t.Errorf("got environments %+v", env)
	}
	s.build("two")
	s.settled()
	s.standing(2, superseded, live)
	if len(s.f.runs) != 1 {
		t.Errorf("%d instances run, want 1", len(s.f.runs))
	}
	all, err := s.s.Artifacts.Verify(s.admin, s.p.ID, s.number(2).Digest)
	check(t, err)
	kinds := make(map[string]int)
	for _, c := range all {
		kinds[c.PredicateType]++
	}
	if kinds[sallyport.PredicateProvenance] != 1 || kinds[sallyport.PredicateVSA] != 1 || kinds[sallyport.PredicateDeployment] != 1 {
		t.Errorf("got statements %v, want one provenance, verdict and deployment", kinds)
	}
}

// A job that was not isolated has no builder that a gate expects.
func TestGateRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.push("main", files{workflowFile: deployWorkflow, ".sallyport/deploy.yaml": deployFile})
	l := s.lease()
	_, err := s.y.PutArtifact(s.runner, l.Ref, "app", bytes.NewReader(tarOf(t, tarFile{"app", "x", 0o755})))
	check(t, err)
	s.finish(l, sallyport.Success, nil)
	s.settled()
	s.standing(0, refused)
	if d := s.number(1); !strings.HasPrefix(d.Cause, "the gate said deny: ") || s.f.applied > 0 {
		t.Errorf("got cause %q, %d starts", d.Cause, s.f.applied)
	}
}

// What was altered between verdict and start is refused at the second look.
func TestSecondVerificationRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		tamper     func(s *site, d *sallyport.Deployment)
	}{
		{"content", "", func(s *site, d *sallyport.Deployment) {
			check(s.t, filepath.Walk(filepath.Join(s.dir, "blobs"), func(path string, info os.FileInfo, err error) error {
				if err != nil || !info.Mode().IsRegular() {
					return err
				}
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				b[len(b)-1] ^= 1
				check(s.t, os.Chmod(path, 0o600))
				return os.WriteFile(path, b, 0o600)
			}))
		}},
		{"another digest", "the verdict is about another digest", func(s *site, d *sallyport.Deployment) {
			d.Digest = sallyport.DigestOf([]byte("other"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			d := s.held("one")
			c.tamper(s, &d)
			check(t, s.e.update(s.admin, func(ch *change) error { return ch.Deployments().Save(d) }))
			s.settled()
			s.standing(0, refused)
			if got := s.number(1).Cause; !strings.HasPrefix(got, "verified again before deployment: ") || !strings.Contains(got, c.want) {
				t.Errorf("got cause %q, want %q in it", got, c.want)
			}
			if s.f.applied > 0 {
				t.Error("it was started")
			}
		})
	}
}

// held builds content and stops right before the deploy stage.
func (s *site) held(content string) sallyport.Deployment {
	s.t.Helper()
	s.skip = sallyport.QueueDeploy
	s.build(content)
	s.skip = ""
	all := s.deployments()
	return all[len(all)-1]
}

func TestFailedStartLeavesTrafficAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(f *field, d sallyport.DeploymentID)
		want  string
	}{
		{"cannot be started", func(f *field, d sallyport.DeploymentID) {
			f.broken[d] = sallyport.Errorf(sallyport.CodeInvalid, "no such program")
		}, "no such program"},
		{"never healthy", func(f *field, d sallyport.DeploymentID) { f.ill[d] = "answers 500" }, "not healthy within 1s: answers 500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.build("one")
			s.settled()
			d := s.held("two")
			c.spoil(s.f, d.ID)
			s.f.checked = func(sallyport.Deployment) { s.pass(2 * time.Second) }
			s.work()
			s.settled()
			s.standing(1, live, failed)
			if got := s.number(2).Cause; got != c.want {
				t.Errorf("got cause %q, want %q", got, c.want)
			}
			if s.f.runs[d.ID] {
				t.Error("the failed instance was not taken down")
			}
		})
	}
}

func TestUnhealthyOnTrial(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.build("one")
	s.settled()
	s.build("two")
	s.f.ill[s.number(2).ID] = "answers 500"
	s.settled()
	s.standing(3, superseded, rolledBack, live)
	if d := s.number(3); d.RollbackOf != s.number(2).ID || d.Digest != s.number(1).Digest {
		t.Errorf("got rollback %+v", d)
	}
	if len(s.f.runs) != 1 {
		t.Errorf("%d instances run, want 1", len(s.f.runs))
	}
}

// The first release of all has nothing before it.
func TestUnhealthyFirstRelease(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.build("one")
	s.f.ill[s.number(1).ID] = "answers 500"
	s.settled() // with nothing to go back to, the traffic has nowhere to go
	all := s.deployments()
	if len(all) != 1 || all[0].State != rolledBack || len(s.f.runs) > 0 {
		t.Fatalf("got %+v, %d running", all, len(s.f.runs))
	}
	kept, err := s.s.Artifacts.Statements(s.admin, s.p.ID, all[0].Digest)
	check(t, err)
	if kept[len(kept)-1].PredicateType != sallyport.PredicateDeployment {
		t.Error("that it was rolled back is not signed")
	}
}

func TestUnhealthyLiveGoesBackToThePrevious(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.build("one")
	s.settled()
	s.build("two")
	s.settled()
	s.f.ill[s.number(2).ID] = "answers 500"
	s.settled()
	s.standing(3, superseded, rolledBack, live)
	if d := s.number(3); d.RollbackOf != s.number(2).ID || d.Digest != s.number(1).Digest {
		t.Errorf("got rollback %+v", d)
	}
}

// When the rollback is unhealthy too, no further one is made, neither where it
// replaces one on trial nor where it replaces what was live.
func TestNoStormOfRollbacks(t *testing.T) {
	t.Parallel()
	t.Run("of a trial", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.build("one")
		s.settled()
		s.build("two")
		s.f.ill[s.number(2).ID] = "answers 500"
		s.watchOnce()
		s.work()
		s.f.ill[s.number(3).ID] = "answers 500"
		s.settled()
		s.standing(1, live, rolledBack, rolledBack)
	})
	t.Run("of what was live", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.build("one")
		s.settled()
		s.build("two")
		s.settled()
		s.f.ill[s.number(2).ID] = "answers 500"
		s.watchOnce()
		s.work()
		s.f.ill[s.number(3).ID] = "answers 500"
		s.settled()
		s.standing(2, superseded, rolledBack, rolledBack)
	})
}

// An unhealthy live release with nothing before it is recorded once, signs nothing, and once more when it recovers.
func TestUnhealthyLiveWithNothingBefore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.build("one")
	s.settled()
	signed := s.n.index
	s.f.ill[s.number(1).ID] = "answers 500"
	for range 3 {
		s.watchOnce()
		s.pass(time.Minute)
	}
	s.standing(1, live)
	count := func(action string) int {
		records, err := s.s.Audit.Records(s.admin, sallyport.AuditFilter{Action: action})
		check(t, err)
		return len(records)
	}
	if n := count("deployment.unhealthy"); n != 1 {
		t.Errorf("it was recorded %d times, want once", n)
	}
	if s.n.index != signed {
		t.Errorf("%d statements were signed about what did not happen", s.n.index-signed)
	}
	if c := s.number(1).Cause; !strings.HasPrefix(c, "unhealthy: ") {
		t.Errorf("got cause %q", c)
	}
	delete(s.f.ill, s.number(1).ID)
	s.watchOnce()
	if c := s.number(1).Cause; c != "" || count("deployment.recovered") != 1 {
		t.Errorf("after it recovered: cause %q", c)
	}
}

// After a restart the watch of what is live does not take the traffic from what is on trial.
func TestTrialKeepsItsTraffic(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.build("one")
	s.settled()
	s.build("two")
	_, err := s.e.takeTraffic(t.Context(), s.number(2))
	check(t, err)
	_, err = s.e.takeTraffic(t.Context(), s.number(1))
	check(t, err)
	s.standing(2, live, watching)
	s.settled()
	s.standing(2, superseded, live)
}

func TestRollbackByHand(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	back := func() error {
		_, err := s.s.Deployments.Rollback(s.admin, s.p.ID, "production", "it is too slow")
		return err
	}
	if err := back(); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("before the first deployment: %v", err)
	}
	s.build("one")
	s.settled()
	if err := back(); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("with nothing before: %v", err)
	}
	s.build("two")
	s.settled()
	check(t, back())
	s.settled()
	s.standing(3, superseded, superseded, live)
	if d := s.number(3); d.Digest != s.number(1).Digest || d.Cause == "" {
		t.Errorf("got %+v", d)
	}
}

// Of those that wait for one under way, the newest goes and the others are superseded.
func TestPushesWhileOneIsUnderWay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, content := range []string{"one", "two", "three"} {
		s.build(content)
	}
	s.standing(0, watching, pending, pending)
	s.settled()
	s.standing(3, superseded, superseded, live)
}

// A fix that waits while the release before it fails its trial goes out next; the rollback does not replace it.
func TestFixGoesOutAfterAFailedTrial(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.build("one")
	s.settled()
	s.build("bad")
	s.build("fix")
	s.f.ill[s.number(2).ID] = "answers 500"
	s.settled()
	s.standing(3, superseded, rolledBack, live)
}

// A rollback that waits for a newer release does not replace it once that is healthy.
func TestRollbackOfWhatWasReplaced(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.build("one")
	s.settled()
	s.build("two")
	s.settled()
	s.build("three")
	s.pass(time.Second)
	_, err := s.s.Deployments.Rollback(s.admin, s.p.ID, "production", "of #2")
	check(t, err)
	s.standing(0, superseded, live, watching, pending)
	s.settled()
	s.standing(3, superseded, superseded, live, superseded)
}

// Each stage may be killed before it saves, and is done again with the same work.
func TestStagesAreDoneAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.held("one")
	for range 2 { // killed once after it was applied, and once more
		w, _, err := s.e.claim(t.Context(), sallyport.QueueDeploy)
		if err != nil || w == nil {
			t.Fatalf("got work %v, %v", w, err)
		}
		lost := *w
		lost.Token = "of a lease that was lost"
		if err := s.e.deploy(system(t.Context(), "deploy"), lost); sallyport.ErrorCode(err) != sallyport.CodeConflict {
			t.Fatalf("without the lease: got %v, want a conflict", err)
		}
		s.standing(0, applying)
		check(t, s.e.Reconcile(t.Context()))
	}
	if s.f.applied != 2 {
		t.Errorf("it was applied %d times, want 2", s.f.applied)
	}
	s.settled()
	s.standing(1, live)
	watchers := 0
	check(t, s.store.View(t.Context(), func(tx sallyport.Tx) error {
		list, err := tx.Work().BySubject(sallyport.QueueWatch, string(d.ID))
		watchers = len(list)
		return err
	}))
	if watchers != 1 {
		t.Errorf("%d pieces of watching are left, want 1", watchers)
	}
	// The work of an earlier stage, done once more, changes nothing.
	err := s.e.deploy(system(t.Context(), "again"), sallyport.Work{ID: "gone", Token: "gone", Subject: string(d.ID)})
	if sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("got %v, want a conflict", err)
	}
	s.standing(1, live)
}

// A watch lasts for as long as its deployment is live: many environments must not
// keep the next one from its traffic.
func TestManyEnvironmentsAreWatched(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const environments = 20
	var file strings.Builder
	file.WriteString("environments:\n")
	for i := range environments {
		fmt.Fprintf(&file, "  e%d: {artifact: app, workflow: .github/workflows/ci.yml, port: 8080, health: {path: /, interval: 50ms, healthy: 1, watch: 1s}}\n", i)
	}
	s.deploys = file.String()
	s.build("one")
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	seen := make(map[sallyport.DeploymentID]bool)
	all := make(chan struct{})
	s.f.checked = func(d sallyport.Deployment) {
		mu.Lock()
		defer mu.Unlock()
		if seen[d.ID] = true; len(seen) == environments {
			select {
			case <-all:
			default:
				close(all)
			}
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, st := range s.e.river() {
			if st.queue == sallyport.QueueWatch {
				s.e.work(ctx, st)
			}
		}
	}()
	select {
	case <-all:
	case <-time.After(20 * time.Second): // the bound of a failure, not of a success
		mu.Lock()
		t.Errorf("%d of %d environments are watched", len(seen), environments)
		mu.Unlock()
	}
	stop()
	<-ended
}

// A rollback that was killed after it gave the traffic back is done again, and made once.
func TestRollbackIsDoneAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.build("one")
	s.settled()
	s.build("two")
	two := s.number(2)
	s.f.ill[two.ID] = "answers 500"
	lost := sallyport.Work{ID: "gone", Token: "of a lease that was lost", Subject: string(two.ID)}
	if err := s.e.watch(system(t.Context(), "watch"), lost); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Fatalf("without the lease: got %v, want a conflict", err)
	}
	s.standing(1, live, watching)
	s.settled()
	s.standing(3, superseded, rolledBack, live)
}
