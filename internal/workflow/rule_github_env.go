package workflow

import (
	"regexp"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleGitHubEnv = Rule{
	ID: "github-env", Severity: SeverityHigh, Confidence: ConfidenceMedium,
	Title: "text that others write is put into GITHUB_ENV or GITHUB_PATH",
	Why:   "A line end in the value adds variables of its own, and some variables make later steps run code. With the path, later steps start programs from a place of someone else's choice.",
	Mend:  "check the value against a pattern first, or hand it on as a step output, which later steps take as data",
	check: checkGitHubEnv,
}

// envFileWrites are ways in which scripts write the files.
var envFileWrites = regexp.MustCompile(`(?:>>?\s*|tee\s+(?:-a\s+)?|Out-File\s.*|Add-Content\s.*)["']?\$?(?:\{|env:|\{env:)?(GITHUB_ENV|GITHUB_PATH)\b|%(GITHUB_ENV|GITHUB_PATH)%`)

// readsFile matches commands that print what a file holds.
var readsFile = regexp.MustCompile(`\$\((?:cat|<)|\bcat\s|\bjq\s|\bunzip\b`)

func checkGitHubEnv(p *pass) {
	for _, st := range p.allSteps() {
		off := 0
		for line := range strings.SplitAfterSeq(st.Run.Text, "\n") {
			m := envFileWrites.FindStringSubmatch(line)
			if m != nil && !p.full() && !strings.HasPrefix(strings.TrimSpace(line), "#") {
				p.writesEnvFile(st, line, off, m[1]+m[2])
			}
			off += len(line)
		}
	}
}

func (p *pass) writesEnvFile(st *stepView, line string, off int, file string) {
	o := origins{s: p.subject}
	from := o.text(sallyport.Template{Text: line}, st.job, st)
	for _, env := range p.envAround(st) {
		if p.afford(len(line)) && readsVariable(line, env.Key.Text) {
			from = max(from, o.text(sallyport.Template{Text: env.Value.Text}, st.job, nil))
		}
	}
	pos := func() sallyport.Pos { return p.within(st.Run, off+len(line)-len(strings.TrimLeft(line, " \t"))) }
	switch {
	case from == outsider:
		p.report(pos(), "text of anyone goes into %s", file)
	case from == member:
		p.reportAs(SeverityLow, pos(), "text of %s goes into %s", from, file)
	case readsFile.MatchString(line) && st.job.startedBy(privileged...):
		p.reportAs(SeverityMedium, pos(), "the content of a file goes into %s in a workflow that others can start with its secrets", file)
	}
}

// envAround returns the variables of the step, its job and the workflow.
func (s *subject) envAround(st *stepView) []sallyport.TreePair {
	out := append([]sallyport.TreePair{}, st.Env.Pairs...)
	out = append(out, st.job.Env.Pairs...)
	if s.file != nil {
		out = append(out, s.file.Env.Pairs...)
	}
	return out
}
