package workflow

import (
	"regexp"
	"slices"
	"strings"
)

var ruleUnpinnedTools = Rule{
	ID: "unpinned-tools", Severity: SeverityLow, Confidence: ConfidenceMedium,
	Title: "a script fetches whatever is newest and runs it",
	Why:   "What a name without a version, latest or a script of the net is today is decided by whoever can publish there; the next run executes it. In Sallyport's rooms, which have no network, such a step fails.",
	Mend:  "name the version and check the digest, or install from a lock file: pip install -r requirements.txt --require-hashes, npm ci, go install name@v1.2.3",
	check: checkUnpinnedTools,
}

var (
	pipedScript  = regexp.MustCompile(`\b(?:curl|wget)\b[^\n|]*\|\s*(?:sudo\s+(?:-\S+\s+)*)?(?:ba|z|da|k)?sh\b|(?:ba|z)?sh\s+(?:-c\s+"\$\(|<\()\s*(?:curl|wget)\b`)
	latestModule = regexp.MustCompile(`\bgo\s+(?:install|run)\s[^\n;&|]*@(?:latest|main|master)\b|\b(?:npx|pnpx|bunx)\s[^\n;&|]*@latest\b`)
	pipInstall   = regexp.MustCompile(`\b(?:pip3?|uv\s+pip)\s+install\s+([^\n;&|]*)`)
	npmGlobal    = regexp.MustCompile(`\bnpm\s+(?:install|i)\s+(?:-g|--global)\s+([^\n;&|]*)`)
)

func checkUnpinnedTools(p *pass) {
	for _, st := range p.allSteps() {
		off := 0
		for line := range strings.SplitAfterSeq(st.Run.Text, "\n") {
			if !strings.HasPrefix(strings.TrimSpace(line), "#") && !p.full() {
				p.fetches(st, line, off)
			}
			off += len(line)
		}
	}
}

func (p *pass) fetches(st *stepView, line string, off int) {
	at := func(i int) int { return off + i }
	if i := pipedScript.FindStringIndex(line); i != nil {
		p.report(p.within(st.Run, at(i[0])), "a script is fetched and run as it comes")
	}
	if i := latestModule.FindStringIndex(line); i != nil {
		p.report(p.within(st.Run, at(i[0])), "the newest version of a tool is fetched and run")
	}
	for _, k := range []struct {
		command *regexp.Regexp
		pin     string
	}{{pipInstall, "=="}, {npmGlobal, "@"}} {
		for _, m := range k.command.FindAllStringSubmatchIndex(line, -1) {
			if name := unpinnedName(line[m[2]:m[3]], k.pin); name != "" {
				p.report(p.within(st.Run, at(m[0])), "%s is installed without a version", quote(name))
			}
		}
	}
}

// optionsWithValue are options of installers that are followed by a value.
var optionsWithValue = []string{
	"-f", "--find-links", "-i", "--index-url", "--extra-index-url", "-t", "--target", "--prefix", "--root", "--upgrade-strategy", "--python", "-p",
	"--no-binary", "--only-binary", "--platform", "--python-version", "--cache-dir", "--timeout", "--retries", "--registry",
}

// unpinnedName is the first package among the arguments of an installer that
// has no version; "" if there is none, or if a file decides.
func unpinnedName(args, pin string) string {
	for _, file := range []string{"-r", "--requirement", "-c", "--constraint", "-e", "--editable", "--require-hashes"} {
		if strings.Contains(" "+args+" ", " "+file+" ") || strings.Contains(args, file+"=") {
			return ""
		}
	}
	value := false // of the option before
	for arg := range strings.FieldsSeq(args) {
		if value {
			value = false
			continue
		}
		value = slices.Contains(optionsWithValue, arg)
		if strings.HasPrefix(strings.TrimLeft(arg, "12"), ">") {
			break // where the output goes
		}
		name := strings.Trim(arg, `"'`)
		if strings.HasPrefix(arg, "-") || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/$*{}\\") && !strings.HasPrefix(name, "@") {
			continue // an option, a path, something computed
		}
		if name == "" || name == "pip" || name == "setuptools" || name == "wheel" {
			continue // what the installer itself is made of
		}
		if !strings.Contains(strings.TrimPrefix(name, "@"), pin) && !strings.ContainsAny(name, "<>~=") {
			return name
		}
	}
	return ""
}
