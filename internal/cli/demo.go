package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/examples"
	"github.com/sallyport-ci/sallyport/internal/daemon"
)

type demoCmd struct {
	output
	Data   string `help:"Data directory of the demo; must be new or one of an earlier demo." default:"data" env:"SALLYPORT_DATA" placeholder:"DIR"`
	Listen string `help:"Address to listen on." default:"127.0.0.1:0" placeholder:"HOST:PORT"`
	Once   bool   `help:"Exit at the end instead of serving on."`
}

// demoResult is the last line of the JSON output.
type demoResult struct {
	Type        string `json:"type"` // "demo"
	OK          bool   `json:"ok"`
	Artifact    string `json:"artifact"`
	Bundle      string `json:"bundle"`
	TrustedRoot string `json:"trusted_root"`
	Identity    string `json:"identity"`
	Issuer      string `json:"issuer"`
	RolledBack  bool   `json:"rolled_back"`
	Refused     bool   `json:"refused"`
}

// Run is the main job, as a user would do it: plain git, plain HTTP, and the services.
func (c demoCmd) Run(e *env) error {
	if _, err := exec.LookPath("git"); err != nil {
		return sallyport.Errorf(sallyport.CodeUnavailable, "the demo pushes with git, which is not here").WithHint("install it: apt-get install git")
	}
	if err := onlyDemo(c.Data); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "the data directory cannot be made: %v", err).WithHint("choose one that you may write with --data")
	}
	data, err := filepath.Abs(c.Data)
	if err != nil {
		return err
	}
	logFile, err := os.OpenFile(filepath.Join(data, "sallyport.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	if err := os.MkdirAll(filepath.Join(data, demoDir), 0o700); err != nil {
		return err
	}
	d := &demo{e: e, data: data, json: c.JSON, once: c.Once, began: time.Now(), result: demoResult{Type: "demo"}}
	config := daemon.Config{Data: data, Listen: c.Listen, Log: slog.New(slog.NewTextHandler(logFile, nil))}
	ctx, end := context.WithCancel(e.ctx)
	defer end()
	err = daemon.Up(ctx, config, func(ctx context.Context, in daemon.Info) error {
		if err := d.play(ctx, in); err != nil {
			return err
		}
		if c.Once {
			end()
		} else {
			fmt.Fprintln(e.stderr, "\nServing on; Ctrl-C ends it.")
		}
		return nil
	})
	if err != nil {
		fmt.Fprintf(e.stderr, "the log of the control plane is %s\n", logFile.Name())
	}
	if serr := daemon.StopReleases(context.WithoutCancel(e.ctx), data); serr != nil && err == nil {
		err = serr
	}
	if c.JSON && (d.result.OK || err != nil) {
		if jerr := json.NewEncoder(e.stdout).Encode(d.result); jerr != nil {
			return jerr
		}
	}
	if err == nil && !d.result.OK {
		return exitError(exitFailed)
	}
	return err
}

// onlyDemo refuses the directory of an installation that is in earnest: the
// demo alters what is kept in it, and at its end it stops the releases.
func onlyDemo(data string) error {
	if _, err := daemon.TrustRoot(data); sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		return nil
	}
	if _, err := os.Stat(filepath.Join(data, demoDir)); err == nil {
		return nil
	}
	return sallyport.Errorf(sallyport.CodeConflict, "%s holds an installation that is no demo", data).
		WithHint("choose a new directory with --data: the demo alters an artifact and stops all releases")
}

// demoDir is where the demo keeps its own things in the data directory.
const demoDir = "demo"

type demo struct {
	e       *env
	data    string
	json    bool
	once    bool
	began   time.Time
	said    time.Time // when something was said last
	in      daemon.Info
	project sallyport.Project
	repo    string // work tree of the sample
	token   string
	result  demoResult
}

const demoEnvironment = "production"

// say prints one line of progress with the time since the start.
func (d *demo) say(mark, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	d.said = time.Now()
	at := d.said.Sub(d.began)
	if d.json {
		_ = json.NewEncoder(d.e.stdout).Encode(map[string]any{"type": "progress", "t": at.Seconds(), "mark": mark, "text": text})
	}
	fmt.Fprintf(d.e.stderr, "%6.1fs  %s %s\n", at.Seconds(), mark, text)
}

func (d *demo) title(format string, args ...any) {
	fmt.Fprintf(d.e.stderr, "\n── "+format+"\n", args...)
}

func (d *demo) play(ctx context.Context, in daemon.Info) error {
	d.in = in
	for _, act := range []func(context.Context) error{d.setUp, d.good, d.broken, d.tampered, d.curtain} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// good pushes a version that works and shows its way to production.
func (d *demo) good(ctx context.Context) error {
	d.title("A push goes from commit to production, with proof")
	r, err := d.push(ctx, "Greet the world")
	if err != nil {
		return err
	}
	if err := d.proof(ctx, r); err != nil {
		return err
	}
	dep, err := d.deployed(ctx, r, sallyport.DeployLive)
	if err != nil {
		return err
	}
	url, body, err := d.ask(ctx)
	if err != nil {
		return err
	}
	d.say("✓", "deployment #%d is live and healthy: GET %s says %q", dep.Number, url, body)
	return nil
}

// proof saves the artifact with its evidence and verifies it as a stranger would.
func (d *demo) proof(ctx context.Context, r sallyport.Run) error {
	saved, err := saveArtifact(ctx, d.in.Services, r.ID, "hello", filepath.Join(d.data, demoDir, "out"))
	if err != nil {
		return err
	}
	if saved.Bundle == "" {
		return fmt.Errorf("artifact hello of run #%d has no provenance", r.Number)
	}
	d.say("✓", "artifact sealed: %s", saved.Digest)
	issuer, identity, err := d.in.Services.Instance.Identity(ctx, d.project.Name, r.Workflow, r.Ref)
	if err != nil {
		return err
	}
	d.result.Artifact, d.result.Bundle, d.result.Issuer, d.result.Identity = saved.File, saved.Bundle, issuer, identity
	d.result.TrustedRoot = filepath.Join(d.data, "trusted_root.json")
	root, err := daemon.TrustRoot(d.data)
	if err != nil {
		return err
	}
	bundle, err := os.ReadFile(saved.Bundle)
	if err != nil {
		return err
	}
	f, err := os.Open(saved.File)
	if err != nil {
		return err
	}
	defer f.Close()
	checked, err := daemon.VerifyFile(f, bundle, root, identity, issuer)
	if err != nil {
		return fmt.Errorf("verify the artifact: %w", err)
	}
	d.say("✓", "provenance signed by %s, entry %d of the signature log, verified offline", identity, checked.LogIndex)
	return nil
}

// broken pushes a version that breaks at run time and shows the rollback.
func (d *demo) broken(ctx context.Context) error {
	d.title("A version that breaks at run time is rolled back")
	if err := examples.Write("hello-broken", d.repo); err != nil {
		return err
	}
	r, err := d.push(ctx, "Refuse markup in names")
	if err != nil {
		return err
	}
	// People go on using the service; that is what finds the fault.
	using, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for using.Err() == nil {
			_, _, _ = d.ask(using) // failures are what the watch is there for
			_ = pause(using, 100*time.Millisecond)
		}
	}()
	dep, err := d.deployed(ctx, r, sallyport.DeployRolledBack)
	if err != nil {
		return err
	}
	d.say("✗", "deployment #%d was unhealthy: %s", dep.Number, dep.Cause)
	good, err := d.rolledBack(ctx, dep.ID)
	if err != nil {
		return err
	}
	stop()
	url, body, err := d.ask(ctx)
	if err != nil {
		return err
	}
	d.result.RolledBack = true
	d.say("✓", "rolled back by deployment #%d, the last healthy release: GET %s says %q", good.Number, url, body)
	return nil
}

// tampered alters the kept bytes of an artifact behind Sallyport's back, as
// someone with the disk could, and shows that the gate refuses it.
func (d *demo) tampered(ctx context.Context) error {
	d.title("An artifact that was tampered with is refused")
	list, err := d.in.Services.Runs.Runs(ctx, sallyport.RunFilter{Project: d.project.ID})
	if err != nil {
		return err
	}
	a, err := d.in.Services.Artifacts.FindArtifact(ctx, list[0].ID, "hello")
	if err != nil {
		return err
	}
	file := daemon.BlobFile(d.data, a)
	if err := flipByte(file); err != nil {
		return err
	}
	d.say(" ", "one byte of artifact hello of run #%d was changed on disk, in %s", list[0].Number, file)
	dep, err := d.in.Services.Deployments.Deploy(ctx, a.ID, demoEnvironment)
	if err != nil {
		return err
	}
	if dep.State != sallyport.DeployRefused {
		return fmt.Errorf("deployment #%d of the tampered artifact is %s, not refused", dep.Number, dep.State)
	}
	d.result.Refused = true
	d.say("✓", "deployment #%d refused: %s", dep.Number, dep.Cause)
	_, body, err := d.ask(ctx)
	if err != nil {
		return err
	}
	d.say("✓", "production is as it was: %q", body)
	return nil
}

// whereToLook names the pages: now, or after a demo that ends how to have them again.
func (d *demo) whereToLook(ctx context.Context, w io.Writer) error {
	if d.once {
		fmt.Fprintf(w, "\nLook at it: sallyport up --data %s serves the pages of this demo and prints a link to log in:\n\n  /projects/%s\n  /deployments\n  /audit\n",
			quote(d.data), d.project.Name)
		return nil
	}
	link, err := loginLink(ctx, d.in)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nLook at it (the first link logs you in, once):\n\n  %s\n  %s/projects/%s\n  %s/deployments\n  %s/audit\n", link, d.in.URL, d.project.Name, d.in.URL, d.in.URL)
	return nil
}

// flipByte changes one byte in the middle of a file.
func flipByte(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, info.Size()/2); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = f.WriteAt(b, info.Size()/2)
	return err
}

// curtain verifies the trail and says where to look.
func (d *demo) curtain(ctx context.Context) error {
	d.title("Everything that happened is in the ledger")
	report, err := daemon.VerifyAudit(ctx, d.data)
	if err != nil {
		return err
	}
	if !report.OK {
		return fmt.Errorf("the audit trail does not verify: %+v", report.Problems)
	}
	d.say("✓", "audit trail verified: %d records, log of %d entries", report.Records, report.Size)
	d.result.OK = d.result.RolledBack && d.result.Refused
	w := d.e.stderr
	if err := d.whereToLook(ctx, w); err != nil {
		return err
	}
	out := w
	if !d.json {
		out = d.e.stdout
	}
	fmt.Fprintf(w, "\nCheck it yourself, without us and offline:\n\n")
	fmt.Fprintf(out, "cosign verify-blob-attestation --bundle %s --trusted-root %s --certificate-identity %s --certificate-oidc-issuer %s --type slsaprovenance1 %s\n",
		quote(d.result.Bundle), quote(d.result.TrustedRoot), quote(d.result.Identity), quote(d.result.Issuer), quote(d.result.Artifact))
	return nil
}

// quote makes a word safe to paste into a shell.
func quote(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@+=,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
