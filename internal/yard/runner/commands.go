package runner

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

const (
	// maxAnnotations bounds the annotations of a step; GitHub shows ten of each level.
	maxAnnotations = 50
	// maxMessage bounds the text of one.
	maxMessage = 4 << 10
)

// commandState is what earlier commands of the step set.
type commandState struct {
	token string // while not "", all commands are output until ::token::
	echo  bool
	err   error // the first command that fails the step
}

// knownCommands may not be the token that ends stop-commands.
var knownCommands = []string{
	"add-mask", "add-matcher", "add-path", "debug", "echo", "endgroup", "error", "group", "notice", "pause-logging",
	"remove-matcher", "save-state", "set-env", "set-output", "stop-commands", "warning",
}

// unechoed are the commands that echo does not show: they are in the log anyhow, or
// must not be.
var unechoed = []string{"add-mask", "debug", "error", "notice", "warning"}

// command obeys a workflow command ("Workflow commands for GitHub Actions");
// false when the line is output like any other.
func (s *step) command(c workflow.Command) bool {
	if s.commands.token != "" {
		if c.Name == s.commands.token {
			s.commands.token = ""
			return true
		}
		return false
	}
	if s.commands.echo && slices.Contains(knownCommands, c.Name) && !slices.Contains(unechoed, c.Name) {
		s.out.print(sallyport.LogOutput, c.Line)
	}
	switch c.Name {
	case "group":
		s.out.print(sallyport.LogGroup, c.Value)
	case "endgroup":
		s.out.print(sallyport.LogEndGroup, "")
	case "debug":
		s.out.print(sallyport.LogDebug, c.Value)
	case "error":
		s.annotate(sallyport.LogError, c)
	case "warning":
		s.annotate(sallyport.LogWarning, c)
	case "notice":
		s.annotate(sallyport.LogNotice, c)
	case "add-mask":
		if strings.TrimSpace(c.Value) == "" {
			s.out.print(sallyport.LogWarning, "add-mask without a value has no effect.")
		} else if err := s.job.mask.Add(c.Value); err != nil {
			s.out.print(sallyport.LogWarning, "add-mask: "+err.Error()+".")
		} else {
			// Also by itself is each line of it masked, as it will be printed by itself.
			for line := range strings.SplitSeq(lineEnds.Replace(c.Value), "\n") {
				_ = s.job.mask.Add(strings.TrimSpace(line)) // one that is too short stays readable
			}
		}
	case "stop-commands":
		if c.Value == "" || slices.Contains(knownCommands, strings.ToLower(c.Value)) {
			s.refuse("stop-commands needs a token that is not the name of a command", "use a random one")
			return true
		}
		s.commands.token = strings.ToLower(c.Value)
	case "echo":
		switch strings.ToLower(strings.TrimSpace(c.Value)) {
		case "on":
			s.commands.echo = true
		case "off":
			s.commands.echo = false
		default:
			s.refuse("echo takes on or off", "")
		}
	case "set-output":
		if err := s.setOutput(workflow.Var{Name: c.Prop("name"), Value: c.Value}); err != nil {
			s.refuse(err.Error(), "")
		}
		s.out.print(sallyport.LogWarning, "The set-output command is deprecated: write name=value to $GITHUB_OUTPUT.")
	case "save-state":
		if err := s.saveState(workflow.Var{Name: c.Prop("name"), Value: c.Value}); err != nil {
			s.refuse(err.Error(), "")
		}
		if s.action != nil {
			s.out.print(sallyport.LogWarning, "The save-state command is deprecated: write name=value to $GITHUB_STATE.")
		}
	case "set-env":
		s.refuse("the set-env command is disabled, since any output could set variables with it", "write name=value to $GITHUB_ENV")
	case "add-path":
		s.refuse("the add-path command is disabled, since any output could change PATH with it", "write the directory to $GITHUB_PATH")
	case "add-matcher":
		s.addMatcherFile(c.Value)
	case "remove-matcher":
		s.removeMatcher(c)
	case "command": // ##[command] shows what a tool runs; ::command:: is none
		if !strings.HasPrefix(c.Line, "##[") {
			return false
		}
		s.out.print(sallyport.LogCommand, c.Value)
	default:
		return false
	}
	return true
}

// refuse makes a command the step's failure.
func (s *step) refuse(message, hint string) {
	if s.commands.err == nil {
		s.commands.err = &failure{message: sentence(message), hint: hint}
	}
}

// annotate logs a message and attaches it to the step.
func (s *step) annotate(kind sallyport.LogKind, c workflow.Command) {
	s.out.print(kind, c.Value)
	file := c.Prop("file")
	if rest, ok := strings.CutPrefix(file, s.job.layout.workspace()+"/"); ok {
		file = rest
	}
	s.attach(sallyport.Annotation{
		Level: string(kind), Message: c.Value, Title: c.Prop("title"), File: file,
		Line: position(c.Prop("line")), Col: position(c.Prop("col")), EndLine: position(c.Prop("endLine")), EndCol: position(c.Prop("endColumn")),
	})
}

// position reads a line or column; 0 when there is none.
func position(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// attach adds an annotation of foreign origin to the step's report. Ends that do not fit their
// beginnings are left out.
func (s *step) attach(a sallyport.Annotation) {
	j := s.job
	a.Message, a.Title, a.File = j.plainLines(a.Message, maxMessage), j.plainText(a.Title, maxName), j.plainText(a.File, 1024)
	if a.Line == 0 || a.EndLine < a.Line {
		a.EndLine = 0
	}
	if a.EndLine > a.Line {
		a.Col, a.EndCol = 0, 0 // columns are those of one line
	}
	if a.Col == 0 || a.EndCol < a.Col {
		a.EndCol = 0
	}
	j.update(func() {
		r := &s.top.report
		switch n := len(r.Annotations); {
		case n < maxAnnotations-1:
			r.Annotations = append(r.Annotations, a)
		case n == maxAnnotations-1:
			r.Annotations = append(r.Annotations, sallyport.Annotation{
				Level: string(sallyport.LogNotice), Message: fmt.Sprintf("The step made more than %d annotations; the rest is in its log.", n)})
		}
	})
}

// plainLines is plainText for text of several lines.
func (j *job) plainLines(text string, limit int) string {
	text = j.mask.Text(lineEnds.Replace(text))
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		out, escapes := clean(nil, []byte(line))
		plain := string(out)
		if escapes {
			plain = j.mask.Text(withoutSGR(out))
		}
		if len(plain) > limit {
			plain = plain[:cutAt([]byte(plain), limit)]
		}
		lines = append(lines, plain)
		if limit -= len(plain) + 1; limit <= 0 {
			break
		}
	}
	return strings.Join(lines, "\n")
}
