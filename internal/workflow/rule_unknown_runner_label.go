package workflow

import (
	"regexp"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleUnknownRunnerLabel = Rule{
	ID: "unknown-runner-label", Severity: SeverityMedium, Confidence: ConfidenceMedium,
	Title: "a runner label that looks mistyped or is gone",
	Why:   "No runner takes a job with a label that none has: the job waits until it is cancelled.",
	Mend:  "correct it; a label of your own runners belongs into labels of .sallyport/lint.yaml",
	check: checkUnknownRunnerLabel,
}

var (
	knownLabels = []string{
		"ubuntu-latest", "ubuntu-26.04", "ubuntu-24.04", "ubuntu-22.04", "ubuntu-24.04-arm", "ubuntu-22.04-arm", "ubuntu-slim",
		"windows-latest", "windows-2025", "windows-2022", "windows-11-arm", "windows-2025-vs2026",
		"macos-latest", "macos-26", "macos-15", "macos-14", "macos-26-intel", "macos-15-intel", "macos-latest-large", "macos-latest-xlarge",
		"macos-26-large", "macos-26-xlarge", "macos-15-large", "macos-15-xlarge", "macos-14-large", "macos-14-xlarge",
		"self-hosted", "linux", "windows", "macos", "x64", "x86", "arm", "arm64", "gpu", "sallyport",
	}
	// goneLabels were taken away by GitHub, and what came after them.
	goneLabels = map[string]string{
		"ubuntu-16.04": "ubuntu-24.04", "ubuntu-18.04": "ubuntu-24.04", "ubuntu-20.04": "ubuntu-24.04",
		"windows-2016": "windows-2022", "windows-2019": "windows-2022",
		"macos-10.15": "macos-15", "macos-11": "macos-15", "macos-12": "macos-15", "macos-13": "macos-15",
	}
	imageLabel = regexp.MustCompile(`^(?:ubuntu|windows|macos)[-_]?(?:[0-9.]+|latest)?$`)
)

func checkUnknownRunnerLabel(p *pass) {
	for _, j := range p.jobs {
		labels, _ := runnerLabels(j.RunsOn)
		if slices.ContainsFunc(labels, func(l sallyport.Template) bool { return strings.EqualFold(l.Text, "self-hosted") || isExpr(l.Text) }) {
			continue // the rest are labels of one's own
		}
		for _, l := range labels {
			name := strings.ToLower(l.Text)
			if slices.Contains(knownLabels, name) || slices.ContainsFunc(p.labels, func(k string) bool { return strings.EqualFold(k, name) }) {
				continue
			}
			if after, gone := goneLabels[name]; gone {
				p.reportAs(SeverityLow, l.Pos, "GitHub has no runners %s any more; newer ones are %s", quote(l.Text), after)
				continue
			}
			if hint := nearest(name, knownLabels); hint != "" && (imageLabel.MatchString(name) || distance(name, hint) <= 2) {
				p.report(l.Pos, "there are no runners %s (did you mean %q?)", quote(l.Text), hint)
			}
		}
	}
}
