package workflow

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Severity says how much a finding matters.
type Severity string

// Severities, from the least.
const (
	SeverityLow    Severity = "low"
	SeverityMedium Severity = "medium"
	SeverityHigh   Severity = "high"
)

var severities = []Severity{SeverityLow, SeverityMedium, SeverityHigh}

// AtLeast reports whether s is as severe as min, or more.
func (s Severity) AtLeast(min Severity) bool {
	return slices.Index(severities, s) >= slices.Index(severities, min)
}

// Confidence says how sure a rule is of what it finds.
type Confidence string

// Confidences, from the least.
const (
	ConfidenceLow    Confidence = "low"
	ConfidenceMedium Confidence = "medium"
	ConfidenceHigh   Confidence = "high"
)

// Rule is one thing that lint looks for.
type Rule struct {
	ID         string
	Severity   Severity // of most findings; some are raised or lowered
	Confidence Confidence
	Title      string // what is found, in a few words
	Why        string // what it leads to
	Mend       string // what to do about it

	check func(*pass)
}

// Finding is a remark of a rule about a file.
type Finding struct {
	Rule       string        `json:"rule"`
	Severity   Severity      `json:"severity"`
	Confidence Confidence    `json:"confidence"`
	File       string        `json:"file"`
	Pos        sallyport.Pos `json:"pos"`
	Message    string        `json:"message"`
	Mend       string        `json:"mend"`
	// Fingerprint stays the same when lines above the finding come or go.
	Fingerprint string `json:"fingerprint"`
	// Waived is the reason that the file or the configuration gives for leaving
	// it as it is; "" if it stands.
	Waived string `json:"waived,omitempty"`
}

// LintInput is all that Lint works from.
type LintInput struct {
	Path string // slash-separated, from the root of the repository
	Src  []byte
	// ReadFile returns another file of the repository, as for [Compile]. nil:
	// nothing is said about what local actions and workflows declare.
	ReadFile func(path string) ([]byte, error)
	// Locked reports whether the lock file pins what stands after uses; nil: nothing is locked.
	Locked func(uses string) bool
	// Labels are runner labels that exist besides the known ones.
	Labels []string
}

// LintReport is what Lint has to say about one file.
type LintReport struct {
	// Invalid are the errors of a file that cannot be used; it has no findings then.
	Invalid  []sallyport.Diagnostic
	Findings []Finding // in the order of the file, those with Waived included
}

const (
	// maxFindings bounds what is said about one file, and maxRuleFindings what one
	// rule says: nobody reads more.
	maxFindings     = 1000
	maxRuleFindings = 100
	// maxLintWork bounds what rules do that compare many things with many, in
	// bytes looked at. What is beyond is not followed.
	maxLintWork = 50_000_000
	// maxLintReads bounds the files of the repository that are read for one file.
	maxLintReads = 100
)

// IsActionFile reports whether the file at the path is an action's metadata
// file and not a workflow.
func IsActionFile(name string) bool {
	return slices.Contains(actionFiles, path.Base(name)) && !strings.HasSuffix(path.Dir(name), ".github/workflows")
}

// Rules returns the rules in the order in which they are documented.
func Rules() []Rule { return slices.Clone(lintRules) }

// Lint looks for what is dangerous or mistaken in a workflow file, or in an
// action's metadata file.
func Lint(in LintInput) LintReport {
	s, invalid := newSubject(in)
	if s == nil {
		return LintReport{Invalid: invalid}
	}
	var found []Finding
	for i := range lintRules {
		p := &pass{subject: s, rule: &lintRules[i]}
		p.rule.check(p)
		found = append(found, p.found...)
	}
	found = s.ignore(found)
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col))
	})
	if len(found) > maxFindings {
		found = found[:maxFindings]
	}
	s.fingerprint(found)
	return LintReport{Findings: found}
}

// pass is one rule at work on one file.
type pass struct {
	*subject
	rule  *Rule
	found []Finding
}

// report records a finding of the rule's own severity.
func (p *pass) report(pos sallyport.Pos, format string, args ...any) {
	p.add(Finding{Pos: pos, Message: fmt.Sprintf(format, args...)})
}

// reportAs records a finding of another severity.
func (p *pass) reportAs(severity Severity, pos sallyport.Pos, format string, args ...any) {
	p.add(Finding{Severity: severity, Pos: pos, Message: fmt.Sprintf(format, args...)})
}

// full reports whether the rule has said all that it may.
func (p *pass) full() bool { return len(p.found) >= maxRuleFindings }

// add records a finding; what it leaves open is the rule's.
func (p *pass) add(f Finding) {
	if p.full() {
		return
	}
	f.Rule, f.File = p.rule.ID, p.path
	f.Severity = cmp.Or(f.Severity, p.rule.Severity)
	f.Confidence = cmp.Or(f.Confidence, p.rule.Confidence)
	f.Message = printable(f.Message)
	f.Mend = printable(cmp.Or(f.Mend, p.rule.Mend))
	if f.Pos.Line == 0 {
		f.Pos = sallyport.Pos{Line: 1, Col: 1}
	}
	p.found = append(p.found, f)
}

// fingerprint marks each finding by its rule, its file and the text of its
// line; of equal ones by their order too.
func (s *subject) fingerprint(found []Finding) {
	type key struct{ rule, line string }
	seen := map[key]int{}
	for i := range found {
		f := &found[i]
		k := key{f.Rule, strings.Join(strings.Fields(s.line(f.Pos.Line)), " ")}
		seen[k]++
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%d", f.Rule, f.File, k.line, seen[k]))
		f.Fingerprint = hex.EncodeToString(sum[:16])
	}
}
