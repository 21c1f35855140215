package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/daemon"
)

// serving are the flags of an installation that is run here.
type serving struct {
	Data          string `help:"Data directory; made when missing." default:"data" env:"SALLYPORT_DATA" placeholder:"DIR"`
	Listen        string `help:"Address to listen on." default:"127.0.0.1:7357" env:"SALLYPORT_LISTEN" placeholder:"HOST:PORT"`
	BaseURL       string `help:"Address as people reach it, behind a proxy." env:"SALLYPORT_BASE_URL" placeholder:"URL"`
	Issuer        string `help:"Issuer in ID tokens of jobs: a public URL where discovery document and keys are found; default the base URL." env:"SALLYPORT_ISSUER" placeholder:"URL"`
	Instance      string `help:"Host name in signatures; fixed by the first start." env:"SALLYPORT_INSTANCE" placeholder:"NAME"`
	Store         string `help:"PostgreSQL to keep state in (postgres://…); default SQLite in the data directory." env:"SALLYPORT_STORE" placeholder:"DSN"`
	TLSCert       string `help:"PEM certificate; needed beyond loopback." env:"SALLYPORT_TLS_CERT" placeholder:"FILE"`
	TLSKey        string `help:"PEM key of the certificate." env:"SALLYPORT_TLS_KEY" placeholder:"FILE"`
	Capacity      int    `help:"Jobs at the same time; 0: as many as CPUs." default:"0"`
	WarmRooms     int    `help:"Rooms made before jobs ask for them; -1: half as many as CPUs, 0: none." default:"-1" env:"SALLYPORT_WARM_ROOMS"`
	UntrustedIn   string `help:"Where jobs of strangers run (pull requests of forks): strong, standard, refuse. Default: strong where gVisor is there, else refuse." enum:",strong,standard,refuse" default:"" env:"SALLYPORT_UNTRUSTED_IN" placeholder:"LEVEL"`
	WitnessPolicy string `help:"File that names the witnesses of the audit log and how many are enough." env:"SALLYPORT_WITNESS_POLICY" placeholder:"FILE"`
	OIDC          string `name:"oidc" help:"YAML file about the company's provider of identities, where people log in." env:"SALLYPORT_OIDC" placeholder:"FILE"`
	actionFlags
	egressFlags
	Registry []string `help:"Registry that images of job and service containers may come from (repeatable); * is any." env:"SALLYPORT_REGISTRIES" placeholder:"HOST"`
}

func (s serving) config(log *slog.Logger) daemon.Config {
	return daemon.Config{
		Data: s.Data, Listen: s.Listen, BaseURL: s.BaseURL, Issuer: s.Issuer, Instance: s.Instance, Store: s.Store, TLSCert: s.TLSCert, TLSKey: s.TLSKey,
		Capacity: s.Capacity, WarmRooms: s.WarmRooms, Actions: s.actionFlags.config(), Egress: s.egressFlags.config(), Registries: s.Registry, UntrustedIn: s.UntrustedIn, WitnessPolicy: s.WitnessPolicy, OIDC: s.OIDC, Log: log,
	}
}

// egressFlags say how far jobs may reach out of their rooms.
type egressFlags struct {
	Egress string `help:"What jobs of projects without .sallyport/egress.yaml may reach: none, listed (the same, for there is no list) or registries (package registries, each version judged)." enum:"none,listed,registries" default:"registries" env:"SALLYPORT_EGRESS" placeholder:"LEVEL"`
	reachFlags
}

// reachFlags are those that the runner has too.
type reachFlags struct {
	EgressPrivate []string `name:"egress-private" help:"Address that is not public and that rules may reach nevertheless: CIDR, ADDRESS, HOST or HOST=ADDRESS (repeatable)." env:"SALLYPORT_EGRESS_PRIVATE" placeholder:"WHAT"`
	Advisories    string   `help:"Directory of advisories in OSV's format, by which malicious packages are known." env:"SALLYPORT_ADVISORIES" placeholder:"DIR"`
	Registries    string   `name:"package-registries" help:"YAML file of package registries for jobs, in place of those that the host's own clients use." env:"SALLYPORT_PACKAGE_REGISTRIES" placeholder:"FILE"`
}

func (f egressFlags) config() daemon.EgressConfig {
	c := f.reachFlags.config()
	c.Level = sallyport.EgressLevel(f.Egress)
	return c
}

func (f reachFlags) config() daemon.EgressConfig {
	return daemon.EgressConfig{Private: f.EgressPrivate, Advisories: f.Advisories, Registries: f.Registries}
}

type upCmd struct {
	serving
	LogFormat string `help:"text or json." enum:"text,json" default:"text" env:"SALLYPORT_LOG_FORMAT"`
	Verbose   bool   `short:"v" help:"Log more."`
	NoRunner  bool   `help:"Run no runner here."`
}

func (c upCmd) Run(e *env) error {
	config := c.config(newLogger(e, c.LogFormat, c.Verbose))
	config.NoRunner = c.NoRunner
	err := daemon.Up(e.ctx, config, func(ctx context.Context, in daemon.Info) error {
		link, err := loginLink(ctx, in)
		if err != nil {
			return err
		}
		fmt.Fprintf(e.stdout, "Sallyport serves %s\nLog in once with  %s\n", in.URL, link)
		return nil
	})
	if err == nil {
		fmt.Fprintf(e.stderr, "Ended. Releases and their traffic go on; to stop them: sallyport down --data %s\n", quote(c.Data))
	}
	return err
}

type downCmd struct {
	Data string `help:"Data directory." default:"data" env:"SALLYPORT_DATA" placeholder:"DIR"`
}

// Run ends what goes on when up has ended: releases and the traffic proxy
// survive a restart of the control plane on purpose.
func (c downCmd) Run(e *env) error {
	return daemon.StopReleases(e.ctx, c.Data)
}

func loginLink(ctx context.Context, in daemon.Info) (string, error) {
	value, _, err := in.Services.Access.CreateToken(ctx, "first login", sallyport.TokenLogin, operator(), loginTTL)
	return in.URL + "/login?token=" + value, err
}

func newLogger(e *env, format string, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(e.stderr, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level}))
}

type doctorCmd struct{ output }

// health is what doctor tells: of the level standard, of strong if it is there, and of the host.
type health struct {
	sallyport.Isolation
	Strong     *sallyport.Isolation `json:"strong,omitempty"`
	Facilities []sallyport.Facility `json:"facilities"`
}

// Run tells what this host can enforce. A host that can isolate nothing is an error, after the table that says why.
func (c doctorCmd) Run(e *env) error {
	quiet := slog.New(slog.DiscardHandler)
	got := health{Facilities: daemon.SurveyHost()}
	var err, strongErr error
	got.Isolation, err = daemon.CheckHost(e.ctx, "standard", quiet)
	var strong sallyport.Isolation
	if strong, strongErr = daemon.CheckHost(e.ctx, "strong", quiet); strongErr == nil {
		got.Strong = &strong
	}
	return errors.Join(c.print(e, got, func(w io.Writer) {
		marks := map[sallyport.FacilityState]string{sallyport.FacilityThere: "✓", sallyport.FacilityMissing: "✗", sallyport.FacilityNeedless: "–"}
		table(w, "\tFACILITY\tFOR\tFOUND", func(line func(...any)) {
			for _, f := range got.Facilities {
				line(marks[f.State], f.Name, f.For, f.Found)
			}
		})
		for _, f := range got.Facilities {
			if f.State == sallyport.FacilityMissing {
				fmt.Fprintf(w, "  → %s: %s\n", f.Name, f.Mend)
			}
		}
		fmt.Fprintln(w)
		if err != nil {
			fmt.Fprintln(w, "This host isolates no jobs.")
			return
		}
		fmt.Fprintf(w, "This host isolates jobs at level %s with %s", got.Level, got.Runtime)
		if got.Rootless {
			fmt.Fprint(w, ", rootless")
		}
		fmt.Fprintln(w)
		for _, what := range got.Enforced {
			fmt.Fprintf(w, "  enforced      %s\n", what)
		}
		for _, gap := range got.NotEnforced {
			fmt.Fprintf(w, "  NOT enforced  %s: %s\n", gap.What, gap.Why)
		}
		if strongErr != nil {
			why, mend := sallyport.ErrorMessage(strongErr)
			fmt.Fprintf(w, "Level strong, for strangers, is not there: %s\n  → %s\n", why, mend)
			return
		}
		fmt.Fprintf(w, "Level strong, for strangers, is there with %s\n", strong.Runtime)
	}), err)
}

// The processes of the yard, started by others of ours.

type runnerCmd struct {
	Socket    string `required:"" help:"Socket of the control plane."`
	Work      string `required:"" help:"Working directory."`
	ID        string `required:"" help:"Id of the runner."`
	Capacity  int    `help:"Jobs at the same time."`
	WarmRooms int    `help:"Rooms made ahead." default:"-1"`
	Home      string `help:"Home directory of who configured the package clients of this host."`
	reachFlags
}

func (c runnerCmd) Run(e *env) error {
	return daemon.Runner(e.ctx, daemon.RunnerConfig{
		Socket: c.Socket, WorkDir: c.Work, ID: c.ID, Capacity: c.Capacity, WarmRooms: c.WarmRooms, Egress: c.reachFlags.config(), Home: c.Home, Parent: os.Stdin, Log: newLogger(e, "text", false),
	})
}

type proxyCmd struct {
	Dir string `required:"" help:"Directory of the proxy."`
}

func (c proxyCmd) Run(e *env) error {
	return daemon.Proxy(e.ctx, c.Dir, newLogger(e, "text", false))
}

type releaseCmd struct {
	Dir string `required:"" help:"Directory of the release."`
}

func (c releaseCmd) Run(e *env) error {
	return daemon.Release(e.ctx, c.Dir, newLogger(e, "text", false))
}
