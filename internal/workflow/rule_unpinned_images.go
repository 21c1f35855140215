package workflow

import (
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleUnpinnedImages = Rule{
	ID: "unpinned-images", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a container image at a tag that can move",
	Why:   "A tag names another image when someone pushes one. The job then runs in, or beside, what was pushed.",
	Mend:  "write the image's digest: name:tag@sha256:<64 hex digits>",
	check: func(p *pass) {
		for _, j := range p.jobs {
			p.image(imageOf(j.Container), SeverityMedium)
			for _, e := range j.Services.Pairs {
				p.image(imageOf(e.Value), SeverityLow)
			}
			for _, st := range j.steps {
				if image, ok := strings.CutPrefix(st.Uses, "docker://"); ok {
					p.image(sallyport.Template{Text: image, Pos: st.usesAt}, SeverityMedium)
				}
			}
		}
	},
}

func imageOf(container sallyport.Tree) sallyport.Template {
	if container.Kind == sallyport.TreeString {
		return templateOf(container)
	}
	for _, e := range container.Pairs {
		if e.Key.Text == "image" {
			return templateOf(e.Value)
		}
	}
	return sallyport.Template{}
}

func (p *pass) image(t sallyport.Template, severity Severity) {
	if t.IsZero() || isExpr(t.Text) || strings.Contains(t.Text, "@sha256:") {
		return
	}
	name := t.Text[strings.LastIndexByte(t.Text, '/')+1:]
	if _, tag, ok := strings.Cut(name, ":"); !ok || tag == "latest" {
		p.reportAs(severity, t.Pos, "the image %s is the newest there is, whatever that is", quote(t.Text))
		return
	}
	p.reportAs(SeverityLow, t.Pos, "the image %s is at a tag, which can be moved", quote(t.Text))
}
