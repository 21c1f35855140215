package workflow

import (
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleSelfHostedRunner = Rule{
	ID: "self-hosted-runner", Severity: SeverityMedium, Confidence: ConfidenceMedium,
	Title: "strangers' code on a runner of your own",
	Why: "On GitHub a self-hosted runner is a machine that stays: a job of a pull request can leave something behind for the jobs after it, which have secrets. " +
		"Sallyport makes a room for each job and throws it away.",
	Mend: "run pull requests on hosted or ephemeral runners, or only those of members",
	check: func(p *pass) {
		for _, j := range p.jobs {
			labels, at := runnerLabels(j.RunsOn)
			if !slices.ContainsFunc(labels, func(l sallyport.Template) bool { return strings.EqualFold(l.Text, "self-hosted") }) {
				continue
			}
			if j.startedBy(fromOutside...) {
				p.report(at, "job %s runs what a stranger can propose on a runner of your own", quote(j.Key))
			}
		}
	},
}

// runnerLabels returns the labels of a runs-on that are known, and its place.
func runnerLabels(t sallyport.Tree) (out []sallyport.Template, at sallyport.Pos) {
	switch t.Kind {
	case sallyport.TreeString:
		out = append(out, templateOf(t))
	case sallyport.TreeSeq:
		for _, i := range t.Items {
			out = append(out, templateOf(i))
		}
	case sallyport.TreeMap:
		for _, e := range t.Pairs {
			if e.Key.Text == "labels" {
				out, _ = runnerLabels(e.Value)
			}
		}
	}
	if len(out) > 0 {
		return out, out[0].Pos
	}
	return out, t.Pos
}
