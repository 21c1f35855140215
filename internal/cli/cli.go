// Package cli is the command line of Sallyport: one file a verb. Verbs ask the
// services, here through the control socket of an installation on this host or
// a URL with a token, and print the answer: text for people on stdout, JSON
// with --json, talk and progress on stderr. They decide nothing.
//
// Exit codes: 0 it was done, 1 it failed or was denied, 2 it was asked wrongly.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/daemon"
	"github.com/sallyport-ci/sallyport/internal/rpc"
	"github.com/sallyport-ci/sallyport/internal/yard/escape"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// commands is the whole command line.
type commands struct {
	Up   upCmd   `cmd:"" help:"Run Sallyport: control plane, runner and traffic proxy."`
	Down downCmd `cmd:"" help:"Stop the releases and the traffic proxy that go on after up has ended."`
	Demo demoCmd `cmd:"" help:"Show the main job from push to proof on a sample project."`

	Run      runCmd      `cmd:"" help:"Run a repository's workflows here, in the same sandbox, without a server."`
	Expr     exprCmd     `cmd:"" help:"Evaluate expressions of workflows as GitHub does."`
	Lint     lintCmd     `cmd:"" help:"Look for what is dangerous or mistaken in workflows and actions."`
	Workflow workflowCmd `cmd:"" help:"Check that workflows and actions are valid."`
	Login    loginCmd    `cmd:"" help:"Print a one-time link to log in to the pages."`
	Project  projectCmd  `cmd:"" help:"Create and list projects."`
	Issuer   issuerCmd   `cmd:"" help:"Show, rotate and publish the keys of ID tokens of jobs."`
	Token    tokenCmd    `cmd:"" help:"Create, list and revoke API tokens."`
	People   peopleCmd   `cmd:"" help:"Add, list and remove people."`
	Bots     botsCmd     `cmd:"" help:"Add, list and remove bots."`
	Agents   agentsCmd   `cmd:"" help:"Add, list and remove agents and who sponsors them."`
	Access   accessCmd   `cmd:"" help:"Show and change who may do what."`

	Approvals approvalsCmd `cmd:"" help:"List, show, approve and reject what asks for approval."`
	Request   requestCmd   `cmd:"" help:"Ask to do something for a while that you may not."`
	Grants    grantsCmd    `cmd:"" help:"List, activate and revoke access that was granted for a while."`
	Kill      killCmd      `cmd:"" help:"Stop a person, bot, agent, runner, project, key or secret at once; or list what is stopped."`
	Unkill    unkillCmd    `cmd:"" help:"Let what was stopped go on."`

	Runs     runsCmd     `cmd:"" help:"List runs, or show one."`
	Logs     logsCmd     `cmd:"" help:"Print the log of a run or a job."`
	Trace    traceCmd    `cmd:"" help:"Show what jobs did, seen from outside their rooms: programs, changes to the source."`
	Cancel   cancelCmd   `cmd:"" help:"Cancel a run."`
	Dispatch dispatchCmd `cmd:"" help:"Start a workflow by hand (workflow_dispatch)."`
	Event    eventCmd    `cmd:"" help:"Hand in an event of a forge: a pull request, an issue, a release, …"`

	Actions   actionsCmd   `cmd:"" help:"Lock, review and verify what workflows use of other repositories."`
	Artifacts artifactsCmd `cmd:"" help:"List and download artifacts with their evidence."`
	Tools     toolsCmd     `cmd:"" help:"List, add and remove toolchains that jobs may set up."`
	Caches    cachesCmd    `cmd:"" help:"List and delete what jobs saved for later runs."`
	Egress    egressCmd    `cmd:"" help:"Show what jobs reached outside, learn rules from it, check them."`
	Secrets   secretsCmd   `cmd:"" help:"Keep, list and delete secrets that jobs use and never hold."`
	Verify    verifyCmd    `cmd:"" help:"Verify a file against its Sigstore bundle, offline."`
	TrustRoot trustRootCmd `cmd:"" name:"trust-root" help:"Print the Sigstore trusted root of the installation."`

	Gate        gateCmd        `cmd:"" help:"List, show and replay gate verdicts."`
	Deployments deploymentsCmd `cmd:"" help:"List deployments, or show one."`
	Deploy      deployCmd      `cmd:"" help:"Deploy a kept artifact to an environment, through the gate."`
	Rollback    rollbackCmd    `cmd:"" help:"Roll an environment back to the last healthy release."`
	Audit       auditCmd       `cmd:"" help:"List and verify the audit trail."`
	Witness     witnessCmd     `cmd:"" help:"Cosign the checkpoints of other installations' logs, on a host of its own."`

	Doctor     doctorCmd     `cmd:"" help:"Tell what this host can enforce, and how to get the rest."`
	Drill      drillCmd      `cmd:"" help:"Attack what protects you, to see that it holds."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
	Completion completionCmd `cmd:"" help:"Print a shell completion script."`

	Runner  runnerCmd  `cmd:"" hidden:"" help:"The runner process."`
	Proxy   proxyCmd   `cmd:"" hidden:"" help:"The traffic proxy process."`
	Release releaseCmd `cmd:"" hidden:"" help:"The host process of one release."`
}

// env is what every verb works with.
type env struct {
	ctx    context.Context
	stdout io.Writer
	stderr io.Writer
	color  bool
	model  *kong.Application
}

// Main runs one command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	if handled, code := escape.Probe(append([]string{"sallyport"}, args...)); handled { // in a room that is attacked
		return code
	}
	if err := daemon.Confined(args); err != nil {
		fmt.Fprintln(stderr, "sallyport:", err)
		return exitFailed
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	parser, err := kong.New(&c,
		kong.Name("sallyport"),
		kong.Description("Nothing comes in unvetted and nothing goes out unproven."),
		kong.Writers(stdout, stderr),
		kong.UsageOnError(),
		kong.ValueFormatter(helpOf),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Exit(func(code int) { panic(exit(code)) }),
	)
	if err != nil {
		fmt.Fprintln(stderr, "sallyport:", err)
		return exitFailed
	}
	return parseAndRun(parser, exprArgs(args), &env{ctx: ctx, stdout: stdout, stderr: stderr, color: colorful(stderr), model: parser.Model})
}

// helpOf is the help of a flag with its default, which a placeholder would hide.
func helpOf(v *kong.Value) string {
	help := kong.DefaultHelpValueFormatter(v)
	if v.Default == "" || v.Tag == nil || v.Tag.PlaceHolder == "" {
		return help
	}
	return help + " Default: " + v.Default + "."
}

type exit int

func parseAndRun(parser *kong.Kong, args []string, e *env) (code int) {
	defer func() { // --help ends the parser
		if p := recover(); p != nil {
			x, ok := p.(exit)
			if !ok {
				panic(p)
			}
			code = int(x)
		}
	}()
	k, err := parser.Parse(args)
	if err != nil {
		hint := "sallyport --help"
		said := err.Error()
		var pe *kong.ParseError
		if errors.As(err, &pe) && pe.Context != nil && pe.Context.Command() != "" {
			hint = "sallyport " + strings.Fields(pe.Context.Command())[0] + " --help"
		} else if word, ok := strings.CutPrefix(said, "unexpected argument "); ok {
			said = "there is no command " + word
		}
		fmt.Fprintf(e.stderr, "sallyport: %s\nsee: %s\n", said, hint)
		return exitUsage
	}
	return e.report(k.Run(e))
}

// report prints an error with its next step and returns the exit code.
func (e *env) report(err error) int {
	if err == nil {
		return exitOK
	}
	var code exitError
	if errors.As(err, &code) {
		return int(code)
	}
	var se *sallyport.Error
	switch {
	case errors.As(err, &se):
		fmt.Fprintf(e.stderr, "sallyport: %s\n", err)
		if se.Hint != "" {
			fmt.Fprintf(e.stderr, "  → %s\n", se.Hint)
		}
		if se.Code == sallyport.CodeInvalid {
			return exitUsage
		}
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(e.stderr, "sallyport: interrupted")
	default:
		fmt.Fprintf(e.stderr, "sallyport: %v\n", err)
	}
	return exitFailed
}

// exitError ends a verb that has said all there is to say.
type exitError int

func (x exitError) Error() string { return fmt.Sprintf("exit %d", int(x)) }

// remote are the flags by which a verb finds the installation that it asks.
type remote struct {
	Data string `help:"Data directory of an installation on this host." default:"data" env:"SALLYPORT_DATA" placeholder:"DIR"`
	URL  string `help:"Address of an installation elsewhere; the token comes from SALLYPORT_TOKEN." env:"SALLYPORT_URL" placeholder:"URL"`
}

func (r remote) services() (sallyport.Services, error) {
	if r.URL != "" {
		token := os.Getenv("SALLYPORT_TOKEN")
		if token == "" {
			return sallyport.Services{}, sallyport.Errorf(sallyport.CodeInvalid, "there is no token for %s", r.URL).
				WithHint("make one with sallyport token create on the host, and put it into SALLYPORT_TOKEN")
		}
		c, err := rpc.Dial(rpc.Config{URL: r.URL, Token: sallyport.NewSecret([]byte(token))})
		if err != nil {
			return sallyport.Services{}, err
		}
		return c.Services(), nil
	}
	socket := daemon.ControlSocket(r.Data)
	if _, err := os.Stat(socket); err != nil {
		dir, _ := filepath.Abs(r.Data)
		return sallyport.Services{}, sallyport.Errorf(sallyport.CodeUnavailable, "no Sallyport runs on %s", dir).
			WithHint("start it with: sallyport up --data %s; or name another with --data or --url", r.Data)
	}
	c, err := rpc.Dial(rpc.Config{UnixSocket: socket})
	if err != nil {
		return sallyport.Services{}, err
	}
	return c.Services(), nil
}

// project is services, and the project of that name.
func (r remote) project(e *env, name string) (sallyport.Services, sallyport.Project, error) {
	s, err := r.services()
	if err != nil {
		return s, sallyport.Project{}, err
	}
	p, err := s.Projects.Project(e.ctx, name)
	return s, p, err
}

// output is the flag of verbs that read.
type output struct {
	JSON bool `help:"Print JSON." name:"json"`
}

// print writes v as JSON, or what text writes for people.
func (o output) print(e *env, v any, text func(w io.Writer)) error {
	if !o.JSON {
		text(e.stdout)
		return nil
	}
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// orEmpty makes an empty list print as [] and not as null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func colorful(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
