package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/examples"
)

// What the acts of the demo are made of: plain git, plain HTTP, and looking at
// the services until something has happened.

// setUp makes the project and the sample's repository.
func (d *demo) setUp(ctx context.Context) error {
	d.say("✓", "Sallyport serves %s", d.in.URL)
	var err error
	name := "hello"
	for n := 2; ; n++ {
		d.project, err = d.in.Services.Projects.CreateProject(ctx, name, "main")
		if sallyport.ErrorCode(err) != sallyport.CodeConflict {
			break
		}
		name = fmt.Sprintf("hello-%d", n)
	}
	if err != nil {
		return err
	}
	d.token, _, err = d.in.Services.Access.CreateToken(ctx, "demo push", sallyport.TokenAPI,
		sallyport.Principal{Kind: sallyport.Bot, ID: "bot/demo", Name: "demo", Projects: []sallyport.ProjectID{d.project.ID}}, time.Hour)
	if err != nil {
		return err
	}
	d.repo = filepath.Join(d.data, demoDir, name)
	if err := os.MkdirAll(d.repo, 0o755); err != nil {
		return err
	}
	if err := examples.Write("hello", d.repo); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.repo, "go.mod"), []byte("module example.com/hello\n\ngo 1.26\n"), 0o644); err != nil {
		return err
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"remote", "add", "sallyport", d.in.URL + "/" + name + ".git"}} {
		if err := d.git(ctx, args...); err != nil {
			return err
		}
	}
	d.say("✓", "project %s, protected branch %s, sample in %s", name, d.project.DefaultBranch, d.repo)
	return nil
}

// git runs plain git in the sample, with the token as its password and a
// configuration that does not depend on the host's.
func (d *demo) git(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = d.repo
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com",
		"SALLYPORT_DEMO_TOKEN="+d.token, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=credential.helper",
		`GIT_CONFIG_VALUE_0=!f() { echo username=demo; echo "password=$SALLYPORT_DEMO_TOKEN"; }; f`)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("git %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	for line := range strings.Lines(string(out)) {
		if remote, ok := strings.CutPrefix(strings.TrimSpace(line), "remote: "); ok && args[0] == "push" {
			d.say(" ", "remote: %s", plain(remote))
		}
	}
	return nil
}

// push commits and pushes, and follows the run to its end.
func (d *demo) push(ctx context.Context, message string) (sallyport.Run, error) {
	for _, args := range [][]string{{"add", "-A"}, {"commit", "-q", "-m", message}, {"push", "-q", "sallyport", "main"}} {
		if err := d.git(ctx, args...); err != nil {
			return sallyport.Run{}, err
		}
	}
	d.say("✓", "git push sallyport main: %q", message)
	return d.follow(ctx, commitOf(ctx, d.repo))
}

func commitOf(ctx context.Context, repo string) string {
	out, err := exec.CommandContext(ctx, "git", "-C", repo, "rev-parse", "HEAD").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// follow waits for the run of a commit and says what becomes of it.
func (d *demo) follow(ctx context.Context, commitID string) (sallyport.Run, error) {
	var r sallyport.Run
	for r.ID == "" {
		list, err := d.in.Services.Runs.Runs(ctx, sallyport.RunFilter{Project: d.project.ID})
		if err != nil {
			return r, err
		}
		for _, x := range list {
			if x.Commit == commitID {
				r = x
			}
		}
		if r.ID == "" {
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return r, err
			}
		}
	}
	d.say("✓", "planned: run #%d, plan %s, tier %s", r.Number, r.PlanDigest.Short(), r.Tier)
	told := make(map[string]bool)
	for {
		r2, jobs, err := d.in.Services.Runs.Run(ctx, r.ID)
		if err != nil {
			return r, err
		}
		for _, j := range jobs {
			d.tellJob(j, told)
		}
		if r2.Status == sallyport.StatusCompleted {
			if r2.Conclusion != sallyport.Success {
				return r2, fmt.Errorf("run #%d ended as %s: %s", r2.Number, r2.Conclusion, r2.Cause)
			}
			return r2, nil
		}
		d.tellPatience(jobs)
		if err := waitRun(ctx, d.in.Services, r.ID); err != nil {
			return r, err
		}
	}
}

// silence is how long the demo says nothing while a step takes its time.
const silence = 5 * time.Second

// tellPatience names the step that is running when nothing was said for a while.
func (d *demo) tellPatience(jobs []sallyport.Job) {
	if time.Since(d.said) < silence {
		return
	}
	for _, j := range jobs {
		for _, s := range j.Steps {
			if s.Status == sallyport.StatusInProgress {
				d.say(" ", "  %s: still running (%s)", plain(s.Name), took(s.StartedAt, time.Time{}))
			}
		}
	}
}

func (d *demo) tellJob(j sallyport.Job, told map[string]bool) {
	once := func(key, mark, format string, args ...any) {
		if !told[string(j.ID)+key] {
			told[string(j.ID)+key] = true
			d.say(mark, format, args...)
		}
	}
	if j.Isolation != nil {
		once("room", "✓", "job %s runs in a room of its own: %s, network %s", j.Name, j.Isolation.Runtime, j.Isolation.Network)
	}
	for _, s := range j.Steps {
		if s.Status == sallyport.StatusCompleted {
			once(fmt.Sprint("step", s.Number), " ", "  %s: %s (%s)", plain(s.Name), s.Conclusion, took(s.StartedAt, s.FinishedAt))
		}
	}
	if j.Status == sallyport.StatusCompleted {
		once("done", "✓", "job %s: %s", j.Name, j.Conclusion)
	}
}

func pause(ctx context.Context, t time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(t):
		return nil
	}
}

// deployed waits until the deployment of a run's release reaches a state, or ends otherwise.
func (d *demo) deployed(ctx context.Context, r sallyport.Run, want sallyport.DeploymentState) (sallyport.Deployment, error) {
	told := make(map[sallyport.DeploymentState]bool)
	for {
		list, err := d.in.Services.Deployments.Deployments(ctx, d.project.ID, demoEnvironment, sallyport.Page{})
		if err != nil {
			return sallyport.Deployment{}, err
		}
		for _, dep := range list {
			if dep.Commit != r.Commit || dep.RollbackOf != "" {
				continue
			}
			if err := d.tellDeployment(ctx, dep, told); err != nil {
				return dep, err
			}
			if dep.State == want {
				return dep, nil
			}
			if dep.State.Final() && (dep.State != sallyport.DeployLive || want != sallyport.DeployRolledBack) {
				return dep, fmt.Errorf("deployment #%d is %s: %s", dep.Number, dep.State, dep.Cause)
			}
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return sallyport.Deployment{}, err
		}
	}
}

func (d *demo) tellDeployment(ctx context.Context, dep sallyport.Deployment, told map[sallyport.DeploymentState]bool) error {
	if told[dep.State] {
		return nil
	}
	told[dep.State] = true
	if len(told) == 1 {
		verdicts, err := d.in.Services.Gates.Verdicts(ctx, d.project.ID, sallyport.Page{})
		if err != nil {
			return err
		}
		for _, v := range verdicts {
			if v.Subject == dep.Digest {
				d.say("✓", "gate %s says %s: %s", v.Gate, v.Decision, v.Reasons[0])
				break
			}
		}
	}
	switch dep.State {
	case sallyport.DeployApplying:
		d.say(" ", "deployment #%d: signature and verdict verified again; it starts beside what runs", dep.Number)
	case sallyport.DeployWatching:
		d.say(" ", "deployment #%d: healthy, takes the traffic, on trial for %s", dep.Number, dep.Spec.Health.Watch)
	}
	return nil
}

// ask requests the service through the traffic proxy.
func (d *demo) ask(ctx context.Context) (url, body string, err error) {
	envs, err := d.in.Services.Deployments.Environments(ctx, d.project.ID)
	if err != nil {
		return "", "", err
	}
	if len(envs) == 0 {
		return "", "", fmt.Errorf("nothing is deployed")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, envs[0].URL, nil)
	if err != nil {
		return "", "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return envs[0].URL, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", envs[0].URL, resp.Status)
	}
	return envs[0].URL, strings.TrimSpace(string(b)), err
}

// rolledBack waits for the forward deployment that replaced a bad one.
func (d *demo) rolledBack(ctx context.Context, bad sallyport.DeploymentID) (sallyport.Deployment, error) {
	for {
		list, err := d.in.Services.Deployments.Deployments(ctx, d.project.ID, demoEnvironment, sallyport.Page{})
		if err != nil {
			return sallyport.Deployment{}, err
		}
		for _, dep := range list {
			switch {
			case dep.RollbackOf != bad:
			case dep.State == sallyport.DeployLive:
				return dep, nil
			case dep.State.Final():
				return dep, fmt.Errorf("the rollback is %s: %s", dep.State, dep.Cause)
			}
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return sallyport.Deployment{}, err
		}
	}
}
