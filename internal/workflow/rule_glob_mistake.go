package workflow

import (
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleGlobMistake = Rule{
	ID: "glob-mistake", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a filter that matches nothing, or not what it seems to",
	Why:   "Branches are matched by their short names and files by their paths from the root, without ./ in front; a pattern that is written otherwise never matches, so the workflow does not start, or starts always.",
	Mend:  "write branches as main or release/**, and files as src/** or **.go",
	check: func(p *pass) {
		if p.file == nil {
			return
		}
		for _, t := range p.file.On {
			for _, f := range []struct {
				list []sallyport.Template
				what string
			}{
				{t.Branches, "branch"}, {t.BranchesIgnore, "branch"}, {t.Tags, "tag"}, {t.TagsIgnore, "tag"}, {t.Paths, "path"}, {t.PathsIgnore, "path"},
			} {
				p.patterns(f.list, f.what)
			}
		}
	},
}

func (p *pass) patterns(list []sallyport.Template, what string) {
	var seen []string
	for i, t := range list {
		text, negative := strings.CutPrefix(t.Text, "!")
		switch {
		case text == "":
			p.report(t.Pos, "the pattern is empty")
		case strings.TrimSpace(text) != text:
			p.report(t.Pos, "the pattern %s has spaces at its ends, which are part of it", quote(t.Text))
		case what != "path" && (strings.HasPrefix(text, "refs/heads/") || strings.HasPrefix(text, "refs/tags/")):
			p.report(t.Pos, "a %s is matched by its short name, so %s never matches", what, quote(t.Text))
		case what == "path" && (strings.HasPrefix(text, "./") || strings.HasPrefix(text, "../") || strings.HasPrefix(text, "/")):
			p.report(t.Pos, "a path is matched from the root without ./ or /, so %s never matches", quote(t.Text))
		case what == "path" && strings.HasSuffix(text, "/"):
			p.report(t.Pos, "%s matches no file: paths are those of files; write %s**", quote(t.Text), text)
		case what != "path" && (strings.Contains(text, "//") || strings.HasSuffix(text, "/") || strings.HasPrefix(text, "/") || strings.Contains(text, "..")):
			p.report(t.Pos, "no %s can have the name %s", what, quote(t.Text))
		case negative && i == 0:
			p.reportAs(SeverityLow, t.Pos, "the first pattern %s leaves something out of nothing; patterns are applied in their order", quote(t.Text))
		case slices.Contains(seen, t.Text):
			p.reportAs(SeverityLow, t.Pos, "the pattern %s is there twice", quote(t.Text))
		}
		seen = append(seen, t.Text)
	}
}
