package workflow

import (
	"fmt"
	"strings"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
)

// LintConfigFile is where a repository says what lint should leave alone.
const LintConfigFile = ".sallyport/lint.yaml"

// LintConfig is the content of [LintConfigFile].
//
//	labels: [gpu]                     # runner labels that exist
//	waivers:
//	  - rule: unpinned-uses
//	    file: .github/workflows/*.yml # default: every file
//	    until: 2027-06-30             # the last day on which it holds
//	    reason: the vendor moves its tags only for releases
type LintConfig struct {
	Labels  []string
	Waivers []Waiver
}

// Waiver leaves findings of a rule as they are, until a day.
type Waiver struct {
	Rule   string
	File   string // a pattern as in paths filters; "" for every file
	Until  time.Time
	Reason string
	Pos    sallyport.Pos
}

var (
	lintConfigKeys = []string{"labels", "waivers"}
	waiverKeys     = []string{"rule", "file", "until", "reason"}
)

// maxWaivers bounds the file: more of them are not read by anyone.
const maxWaivers = 200

// ParseLintConfig reads the file. With any diagnostic of severity error it must not be used.
func ParseLintConfig(src []byte) (*LintConfig, []sallyport.Diagnostic) {
	d := &decoder{path: LintConfigFile, src: src}
	root := d.document()
	if root == nil {
		return nil, d.diags.list
	}
	c := &LintConfig{}
	for _, e := range d.fields(root, "the file", lintConfigKeys) {
		switch e.key.Text {
		case "labels":
			for _, t := range d.texts(e.val, "labels") {
				c.Labels = append(c.Labels, t.Text)
			}
		case "waivers":
			c.Waivers = d.waivers(e.val)
		}
	}
	d.sort()
	return c, d.diags.list
}

func (d *decoder) waivers(n *yaml.Node) (out []Waiver) {
	if n.Kind != yaml.SequenceNode {
		d.report(posOf(n), "waivers must be a sequence, not %s", kindName(n))
		return nil
	}
	if len(n.Content) > maxWaivers {
		d.report(posOf(n), "more than %d waivers", maxWaivers)
		return nil
	}
	for _, item := range n.Content {
		w := Waiver{Pos: posOf(item)}
		for _, e := range d.fields(item, "the waiver", waiverKeys) {
			t := d.text(e.val, e.key.Text)
			switch e.key.Text {
			case "rule":
				w.Rule = t.Text
				d.ruleName(t)
			case "file":
				w.File = t.Text
				if err := checkPattern(t.Text); err != nil {
					d.report(t.Pos, "invalid pattern %s: %v", quote(t.Text), err)
				}
			case "until":
				day, err := time.Parse(time.DateOnly, t.Text)
				if err != nil {
					d.report(t.Pos, "%s is not a day: write for example 2027-06-30", quote(t.Text))
				}
				w.Until = day
			case "reason":
				w.Reason = strings.TrimSpace(t.Text)
			}
		}
		d.require(item, "the waiver", "rule", "until", "reason")
		out = append(out, w)
	}
	return out
}

func (d *decoder) ruleName(t sallyport.Template) {
	var ids []string
	for i := range lintRules {
		if lintRules[i].ID == t.Text {
			return
		}
		ids = append(ids, lintRules[i].ID)
	}
	d.report(t.Pos, "there is no rule %s%s", quote(t.Text), didYouMean(t.Text, ids))
}

// Waive marks the findings that a waiver covers on the given day.
func (c *LintConfig) Waive(found []Finding, today time.Time) {
	for i := range found {
		f := &found[i]
		for _, w := range c.Waivers {
			if f.Waived == "" && w.Rule == f.Rule && !w.expired(today) && w.covers(f.File) {
				f.Waived = printable(fmt.Sprintf("%s (until %s)", w.Reason, w.Until.Format(time.DateOnly)))
			}
		}
	}
}

func (w Waiver) covers(file string) bool {
	return w.File == "" || w.File == file || matchPattern(w.File, file)
}

// expired reports whether the last day of the waiver is over, in UTC.
func (w Waiver) expired(today time.Time) bool { return !today.UTC().Before(w.Until.AddDate(0, 0, 1)) }

// Expired returns a finding for each waiver that holds no more.
func (c *LintConfig) Expired(today time.Time) (out []Finding) {
	for _, w := range c.Waivers {
		if w.expired(today) {
			p := &pass{subject: &subject{path: LintConfigFile}, rule: &ruleExpiredWaiver}
			p.report(w.Pos, "the waiver of %s ended on %s", w.Rule, w.Until.Format(time.DateOnly))
			out = append(out, p.found...)
		}
	}
	return out
}

var ruleExpiredWaiver = Rule{
	ID: "expired-waiver", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a waiver of .sallyport/lint.yaml that has ended",
	Why:   "A waiver says until when a finding may stay. After that day the finding stands again, and the waiver only misleads.",
	Mend:  "mend what it was about and remove it, or decide anew and set another day",
	check: func(*pass) {}, // by LintConfig.Expired
}
