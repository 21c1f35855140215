package runner

import (
	"context"
	"fmt"
	"path"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// shell is how the text of a step is run: a command in which {0} stands for
// the script's path.
type shell struct {
	argv      []string
	extension string
	shown     string // for people; the command itself if ""
	dialect   string // bash or sh, of scripts that can be looked through
}

// String returns the command as the log shows it.
func (sh shell) String() string {
	if sh.shown != "" {
		return sh.shown
	}
	return strings.Join(sh.argv, " ")
}

// The shells that have a name ("jobs.<job_id>.steps[*].shell" of GitHub's
// workflow syntax). The empty name is what runs when nothing is said.
var shells = map[string]shell{
	"":     {argv: []string{"bash", "-e", "{0}"}, extension: ".sh", dialect: "bash"},
	"bash": {argv: []string{"bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "{0}"}, extension: ".sh", dialect: "bash"},
	"sh":   {argv: []string{"sh", "-e", "{0}"}, extension: ".sh", dialect: "sh"},
	// Debian has no python by that name.
	"python": {argv: []string{"sh", "-c", `command -v python >/dev/null && exec python "$0"; exec python3 "$0"`, "{0}"}, extension: ".py", shown: "python {0}"},
	"pwsh":   {argv: []string{"pwsh", "-command", ". '{0}'"}, extension: ".ps1"},
}

// parseShell reads the value of a shell key.
func parseShell(text string) (shell, error) {
	text = strings.TrimSpace(text)
	if sh, ok := shells[text]; ok {
		return sh, nil
	}
	if !strings.Contains(text, "{0}") {
		return shell{}, sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not a shell of this runner", text).
			WithHint("use bash, sh, python or pwsh, or a command in which {0} stands for the script, such as: perl {0}")
	}
	argv, err := splitCommand(text)
	if err != nil {
		return shell{}, err
	}
	return shell{argv: argv, extension: shells[path.Base(argv[0])].extension}, nil
}

// splitCommand splits a command at white space; double quotes keep it together.
func splitCommand(text string) ([]string, error) {
	var argv []string
	var word strings.Builder
	quoted, inWord := false, false
	for _, r := range text {
		switch {
		case r == '"':
			quoted, inWord = !quoted, true
		case !quoted && (r == ' ' || r == '\t' || r == '\n'):
			if inWord {
				argv = append(argv, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quoted {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "a quote in the shell %.80q does not end", text)
	}
	if inWord {
		argv = append(argv, word.String())
	}
	return argv, nil
}

// command returns the command for a script at the given path in the room.
func (sh shell) command(script string) []string {
	argv := make([]string, len(sh.argv))
	for i, a := range sh.argv {
		argv[i] = strings.ReplaceAll(a, "{0}", script)
	}
	return argv
}

// runScript runs the text of a run step.
func (s *step) runScript(ctx context.Context) error {
	j := s.job
	sh, err := s.shell()
	if err != nil {
		return err
	}
	files, err := j.layout.newCommandFiles()
	if err != nil {
		return err
	}
	s.frame.scope.Set("github", withEntries(s.frame.scope.Get("github"), files.entries()...))
	text, err := s.scriptText(sh)
	if err != nil {
		return err
	}
	dir, err := s.workingDirectory()
	if err != nil {
		return err
	}
	if sh.extension == ".ps1" {
		text = "$ErrorActionPreference = 'stop'\n" + text +
			"\nif ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) { exit $LASTEXITCODE }\n"
	}
	script, err := j.layout.script(text, sh.extension)
	if err != nil {
		return err
	}
	s.announce(text, sh)
	return s.exec(ctx, sh.command(script), j.processEnv(s.frame, &s.env, files), dir, files)
}

// exec runs one process of the step with its command files, and takes what it
// wrote to them.
func (s *step) exec(ctx context.Context, argv []string, env []sallyport.EnvVar, dir string, files *commandFiles) error {
	return s.execIn(ctx, s.job.room, sallyport.ExecSpec{Argv: argv, Env: env, Dir: dir, User: s.job.user()}, files)
}

// execIn is exec for a room that need not be the job's own.
func (s *step) execIn(ctx context.Context, room sallyport.Room, spec sallyport.ExecSpec, files *commandFiles) error {
	j := s.job
	spec.Stdout, spec.Stderr, spec.Interrupt = s.out, s.out, interrupts
	result, err := room.Exec(ctx, spec)
	s.out.close()
	ferr := j.takeFiles(s, files)
	switch {
	case err != nil:
		return err
	case ferr != nil:
		return ferr
	case s.commands.err != nil:
		return s.commands.err
	case result.OOM && result.ExitCode != 0:
		return &failure{message: fmt.Sprintf("The process ran out of memory and ended with exit code %d.", result.ExitCode), exit: result.ExitCode}
	case result.Signal != "":
		return &failure{message: fmt.Sprintf("The process was ended by a signal (%s), exit code %d.", j.plainText(result.Signal, 20), result.ExitCode), exit: result.ExitCode}
	case result.ExitCode != 0:
		return &failure{message: fmt.Sprintf("Process completed with exit code %d.", result.ExitCode), exit: result.ExitCode}
	}
	return nil
}

// shell returns the step's shell. Defaults of the workflow do not reach into actions.
func (s *step) shell() (shell, error) {
	chain := []sallyport.Template{s.plan.Shell}
	if !s.frame.composite {
		chain = append(chain, s.job.plan.Defaults.Shell, s.job.lease.Plan.Defaults.Shell)
	}
	for _, t := range chain {
		text, tainted, err := s.frame.scope.Text(t)
		if err != nil {
			return shell{}, err
		}
		if tainted {
			return shell{}, sallyport.Errorf(sallyport.CodeInvalid, "the shell must not depend on an untrusted value")
		}
		if text != "" {
			return parseShell(text)
		}
	}
	if s.job.container != nil && !s.frame.composite {
		return parseShell("sh") // an image need not have bash (GitHub: the default in containers)
	}
	return parseShell("")
}

// workingDirectory returns the absolute directory in which the step runs.
func (s *step) workingDirectory() (string, error) {
	chain := []sallyport.Template{s.plan.WorkingDirectory}
	if !s.frame.composite {
		chain = append(chain, s.job.plan.Defaults.WorkingDirectory, s.job.lease.Plan.Defaults.WorkingDirectory)
	}
	for _, t := range chain {
		text, _, err := s.frame.scope.Text(t)
		if err != nil {
			return "", err
		}
		if text != "" {
			return s.job.layout.inWorkspace(text), nil
		}
	}
	return s.job.layout.workspace(), nil
}

// inWorkspace returns the absolute path in the room of a path that is relative
// to the workspace unless it is absolute.
func (l *layout) inWorkspace(p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join(l.workspace(), p)
}

// absolute is inWorkspace for the path inputs of actions, in which ~ is the home directory.
func (l *layout) absolute(p string) string {
	if p == "~" {
		return l.home
	}
	if rest, ok := strings.CutPrefix(p, "~/"); ok {
		return path.Join(l.home, rest)
	}
	return l.inWorkspace(p)
}

// maxShown bounds the lines of a script that the log repeats, maxShownValue the
// bytes of a variable.
const (
	maxShown      = 500
	maxShownValue = 1 << 10
)

// announce writes what runs to the log, as a group.
func (s *step) announce(text string, sh shell) {
	s.out.print(sallyport.LogGroup, "Run "+headline(text))
	lines := strings.SplitAfterN(strings.TrimRight(text, "\n"), "\n", maxShown+1)
	if len(lines) > maxShown {
		lines = append(lines[:maxShown], "…")
	}
	s.out.print(sallyport.LogCommand, strings.Join(lines, ""))
	s.out.print(sallyport.LogCommand, "shell: "+sh.String())
	s.announceVars("env", s.env.names, s.env.get)
	s.out.print(sallyport.LogEndGroup, "")
}

// announceVars writes named values to the log.
func (s *step) announceVars(title string, names []string, get func(string) (string, bool)) {
	if len(names) == 0 {
		return
	}
	var b strings.Builder
	b.WriteString(title + ":\n")
	for _, name := range names {
		value, _ := get(name)
		// Masked before it is cut: half a secret would not be recognised.
		if value = s.job.mask.Text(value); len(value) > maxShownValue {
			value = strings.ToValidUTF8(value[:maxShownValue], "") + "…"
		}
		fmt.Fprintf(&b, "  %s: %s\n", name, value)
	}
	s.out.print(sallyport.LogCommand, b.String())
}
