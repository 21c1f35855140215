package workflow

import (
	"regexp"
	"strings"
)

var ruleArtifactPoisoning = Rule{
	ID: "artifact-poisoning", Severity: SeverityHigh, Confidence: ConfidenceMedium,
	Title: "an artifact of another run is unpacked where code is run",
	Why: "workflow_run follows runs of forks too, and their artifacts hold whatever the fork put in. Unpacked over the workspace, one replaces scripts and programs that later steps run with the repository's secrets. " +
		"Sallyport's own download takes artifacts of runs that are trusted as much as its own; GitHub's takes any.",
	Mend:  "unpack it into a directory of its own, such as ${{ runner.temp }}/artifact, check what it holds, and never run anything of it",
	check: checkArtifactPoisoning,
}

var (
	downloads       = regexp.MustCompile(`\bgh\s+run\s+download\b|/actions/artifacts/|listWorkflowRunArtifacts|downloadArtifact`)
	downloadActions = []string{"dawidd6/action-download-artifact", "actions/download-artifact"}
)

func checkArtifactPoisoning(p *pass) {
	for _, st := range p.allSteps() {
		if !st.job.startedBy("workflow_run") || p.full() {
			continue
		}
		switch {
		case st.name == downloadActions[0], st.name == downloadActions[1] && hasInput(st, "run-id"):
			dir, _ := st.input("path")
			if aside(dir.Text) && !p.runsFrom(st, dir.Text) {
				p.reportAs(SeverityLow, st.usesAt, "the artifact of another run is unpacked into %s; check it before use", dir.Text)
				continue
			}
			p.report(st.usesAt, "the artifact of another run is unpacked into the workspace")
		case downloads.MatchString(st.Run.Text):
			p.reportAs(SeverityMedium, p.within(st.Run, downloads.FindStringIndex(st.Run.Text)[0]), "the script gets an artifact of another run")
		}
	}
}

func hasInput(st *stepView, name string) bool {
	_, ok := st.input(name)
	return ok
}

// aside reports whether a directory is out of the workspace.
func aside(dir string) bool {
	return strings.Contains(dir, "runner.temp") || strings.Contains(dir, "RUNNER_TEMP") || strings.HasPrefix(dir, "/tmp")
}

// runsFrom reports whether a later step runs something of a directory.
func (p *pass) runsFrom(st *stepView, dir string) bool {
	for _, later := range st.job.steps[st.index+1:] {
		if !p.afford(len(later.Run.Text)) {
			return false
		}
		for line := range strings.SplitSeq(later.Run.Text, "\n") {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, dir) || strings.HasPrefix(line, "bash "+dir) || strings.HasPrefix(line, "sh "+dir) {
				return true
			}
		}
	}
	return false
}
