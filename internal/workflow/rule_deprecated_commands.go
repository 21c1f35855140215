package workflow

import (
	"regexp"
	"strings"
)

var ruleDeprecatedCommands = Rule{
	ID: "deprecated-commands", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a command that runners are giving up",
	Why:   "set-output and save-state in printed text are deprecated, and set-env and add-path are refused: any text that a step prints could hold them.",
	Mend:  "write a line to the file instead: echo \"name=value\" >> \"$GITHUB_OUTPUT\"",
	check: checkDeprecatedCommands,
}

var (
	oldCommand  = regexp.MustCompile(`::(set-output|save-state|set-env)\s+name=|::(add-path)::`)
	commandFile = map[string]string{"set-output": "GITHUB_OUTPUT", "save-state": "GITHUB_STATE", "set-env": "GITHUB_ENV", "add-path": "GITHUB_PATH"}
)

func checkDeprecatedCommands(p *pass) {
	for _, st := range p.allSteps() {
		off := 0
		for line := range strings.SplitAfterSeq(st.Run.Text, "\n") {
			if at := oldCommand.FindStringSubmatchIndex(line); at != nil && !strings.HasPrefix(strings.TrimSpace(line), "#") {
				m := oldCommand.FindStringSubmatch(line)
				command := m[1] + m[2]
				severity := SeverityMedium
				if command == "set-env" || command == "add-path" {
					severity = SeverityHigh
				}
				p.add(Finding{
					Severity: severity, Pos: p.within(st.Run, off+at[0]), Message: "the command " + command + " is not taken from printed text any more",
					Mend: "write a line to the file instead: echo \"name=value\" >> \"$" + commandFile[command] + "\"",
				})
			}
			off += len(line)
		}
	}
}
