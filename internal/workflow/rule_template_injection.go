package workflow

import (
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleTemplateInjection = Rule{
	ID: "template-injection", Severity: SeverityHigh, Confidence: ConfidenceHigh,
	Title: "text that others write is pasted into a script",
	Why: "An expression in a script is replaced before the script is parsed, so a title or a branch's name can hold code that runs with the job's secrets. " +
		"In run steps Sallyport's runner passes such values by environment or refuses the step, so these findings are lower; GitHub's runner, and actions that take a script as input, run them.",
	Mend:  "pass the value by environment: set env: VALUE: ${{ … }} on the step and read \"$VALUE\" in the script",
	check: checkTemplateInjection,
}

// scriptInputs are inputs of well-known actions that are run as code.
var scriptInputs = map[string][]string{
	"actions/github-script":                  {"script"},
	"azure/cli":                              {"inlinescript"},
	"azure/powershell":                       {"inlinescript"},
	"appleboy/ssh-action":                    {"script"},
	"addnab/docker-run-action":               {"run"},
	"amadevus/pwsh-script":                   {"script"},
	"cardinalby/js-eval-action":              {"expression"},
	"jannekem/run-python-script-action":      {"script"},
	"mikefarah/yq":                           {"cmd"},
	"nick-fields/retry":                      {"command"},
	"nick-invision/retry":                    {"command"},
	"reactivecircus/android-emulator-runner": {"script"},
	"uraimo/run-on-arch-action":              {"run", "install", "setup"},
	"vmactions/freebsd-vm":                   {"run", "prepare"},
	"vmactions/netbsd-vm":                    {"run", "prepare"},
	"vmactions/openbsd-vm":                   {"run", "prepare"},
	"wandalen/wretry.action":                 {"command", "js_pre_command"},
}

func checkTemplateInjection(p *pass) {
	for i := range p.sites {
		at := &p.sites[i]
		if at.step == nil {
			continue
		}
		script := at.field == "run" || at.field == "with" && slices.Contains(scriptInputs[at.step.name], foldCase(at.name))
		if !script {
			continue
		}
		for _, seg := range at.segs {
			if seg.expr == nil || p.full() {
				continue
			}
			o := (&origins{s: p.subject}).of(seg.expr, at.job, at.step)
			if o != ours {
				p.injected(at, seg, o)
			}
		}
	}
}

// injected reports one expression in a script.
func (p *pass) injected(at *site, seg segment, o origin) {
	expr := strings.TrimSpace(seg.text)
	f := Finding{Pos: p.within(at.text, seg.off-len("${{")), Severity: SeverityHigh}
	f.Message = "${{ " + expr + " }} can hold text of " + o.String() + " and becomes part of a script"
	where := "env: " + envNameFor(seg.expr) + ": ${{ " + expr + " }} on the step"
	switch {
	case at.field == "with":
		f.Mend = "set " + where + " and read process.env." + envNameFor(seg.expr) + " or the like in the script"
		if o == member {
			f.Severity = SeverityMedium
		}
	default:
		f.Mend = "set " + where + " and write \"$" + envNameFor(seg.expr) + "\" in the script"
		f.Severity = SeverityMedium
		if o == member {
			f.Severity = SeverityLow
		}
		if shellOf(at.step, p.file).Text == "" || slices.Contains([]string{"bash", "sh"}, strings.Fields(shellOf(at.step, p.file).Text + " ")[0]) {
			f.Message += "; Sallyport's runner passes it by environment, GitHub's runs it"
		} else {
			f.Message += "; Sallyport's runner refuses the step if it has special characters, GitHub's runs it"
		}
	}
	p.add(f)
}

// shellOf is the shell of a step as written for it, its job or the workflow.
func shellOf(st *stepView, f *File) sallyport.Template {
	for _, t := range []sallyport.Template{st.Shell, st.job.Defaults.Shell} {
		if !t.IsZero() {
			return t
		}
	}
	if f != nil {
		return f.Defaults.Shell
	}
	return sallyport.Template{}
}

// envNameFor makes a variable's name of the last name in an expression.
func envNameFor(n *node) string {
	name := ""
	n.chains(func(c chain, _ *node) {
		if last := c[len(c)-1]; name == "" && isIdentifier(last) {
			name = strings.ToUpper(strings.ReplaceAll(last, "-", "_"))
		}
	})
	if name == "" {
		return "VALUE"
	}
	return name
}
