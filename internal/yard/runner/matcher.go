package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// Bounds of problem matchers. Real ones have a few patterns of a hundred bytes.
const (
	maxMatcherFile     = 256 << 10
	maxMatchers        = 100 // of a job
	maxMatcherPatterns = 20  // of a matcher
	maxMatcherPattern  = 4 << 10
	// maxMatched is the longest line that is looked at.
	maxMatched = 16 << 10
)

// matcher finds problems in the output of steps ("problem matchers" of GitHub's
// toolkit): its patterns match lines that follow each other.
type matcher struct {
	owner    string
	severity string // where the text says none
	patterns []pattern
}

// pattern is what one line must look like, and which of its groups hold what.
type pattern struct {
	re                                         *regexp.Regexp
	file, fromPath, line, col, endLine, endCol int // groups; 0 = none
	severity, code, message                    int
	loop                                       bool
}

// problem is what the groups of all lines of a match held.
type problem struct {
	file, fromPath, line, col, endLine, endCol, severity, code, message string
}

// with returns the problem with what the pattern found in one more line.
func (p problem) with(pat *pattern, groups []string) problem {
	take := func(to *string, group int) {
		if group > 0 && group < len(groups) && groups[group] != "" {
			*to = groups[group]
		}
	}
	take(&p.file, pat.file)
	take(&p.fromPath, pat.fromPath)
	take(&p.line, pat.line)
	take(&p.col, pat.col)
	take(&p.endLine, pat.endLine)
	take(&p.endCol, pat.endCol)
	take(&p.severity, pat.severity)
	take(&p.code, pat.code)
	take(&p.message, pat.message)
	return p
}

// parseMatchers reads a file that add-matcher names. A matcher whose patterns
// need more than regular expressions of linear time is left out, with the reason in
// refused: it would only have added annotations.
func parseMatchers(src []byte) (matchers []*matcher, refused []string, err error) {
	var file struct {
		ProblemMatcher []struct {
			Owner    string
			Severity string
			Pattern  []struct {
				Regexp                                                           string
				File, FromPath, Line, Column, EndLine, EndColumn, Severity, Code *int
				Message                                                          *int
				Loop                                                             bool
			}
		}
	}
	if err := json.Unmarshal(src, &file); err != nil {
		return nil, nil, invalidMatcher("it is not JSON as a problem matcher has it: %v", err)
	}
	if len(file.ProblemMatcher) == 0 {
		return nil, nil, invalidMatcher("it has no problemMatcher")
	}
	owners := map[string]bool{}
	for _, in := range file.ProblemMatcher {
		if in.Owner == "" {
			return nil, nil, invalidMatcher("a matcher has no owner")
		}
		if key := strings.ToLower(in.Owner); owners[key] {
			return nil, nil, invalidMatcher("two matchers have the owner %.80q", in.Owner)
		} else {
			owners[key] = true
		}
		if n := len(in.Pattern); n == 0 || n > maxMatcherPatterns {
			return nil, nil, invalidMatcher("the matcher %.80q has %d patterns; it needs 1 to %d", in.Owner, n, maxMatcherPatterns)
		}
		m := &matcher{owner: in.Owner, severity: in.Severity}
		why := ""
		message := false
		for i, p := range in.Pattern {
			last := i == len(in.Pattern)-1
			pat := pattern{loop: p.Loop}
			for _, g := range []struct {
				to *int
				in *int
			}{{&pat.file, p.File}, {&pat.fromPath, p.FromPath}, {&pat.line, p.Line}, {&pat.col, p.Column}, {&pat.endLine, p.EndLine},
				{&pat.endCol, p.EndColumn}, {&pat.severity, p.Severity}, {&pat.code, p.Code}, {&pat.message, p.Message}} {
				if g.in == nil {
					continue
				}
				if *g.in < 0 {
					return nil, nil, invalidMatcher("a group of the matcher %.80q is negative", in.Owner)
				}
				*g.to = *g.in
			}
			message = message || p.Message != nil
			switch {
			case p.Loop && (!last || len(in.Pattern) == 1):
				return nil, nil, invalidMatcher("only the last of several patterns may loop, in the matcher %.80q", in.Owner)
			case p.Loop && p.Message == nil:
				return nil, nil, invalidMatcher("a pattern that loops needs a message, in the matcher %.80q", in.Owner)
			case p.Regexp == "" || len(p.Regexp) > maxMatcherPattern:
				return nil, nil, invalidMatcher("a pattern of the matcher %.80q has %d bytes; it needs 1 to %d", in.Owner, len(p.Regexp), maxMatcherPattern)
			}
			if pat.re, err = compilePattern(p.Regexp); err != nil {
				why = fmt.Sprintf("The problem matcher %.80s has no effect: %v.", in.Owner, err)
			}
			m.patterns = append(m.patterns, pat)
		}
		switch {
		case !message:
			return nil, nil, invalidMatcher("no pattern of the matcher %.80q has a message", in.Owner)
		case why != "":
			refused = append(refused, why)
		default:
			matchers = append(matchers, m)
		}
	}
	return matchers, refused, nil
}

func invalidMatcher(format string, args ...any) error {
	return sallyport.Errorf(sallyport.CodeInvalid, "the problem matcher file: "+format, args...)
}

var unicodeEscape = regexp.MustCompile(`\\u([0-9A-Fa-f]{4})`)

// maxPatternWeight bounds a pattern as it is after its counted repetitions are
// written out; matching a line takes time in proportion.
const maxPatternWeight = 2000

// weight is about how many instructions an expression compiles to.
func weight(re *syntax.Regexp) int {
	n := 1
	switch re.Op {
	case syntax.OpLiteral:
		n = len(re.Rune)
	case syntax.OpCharClass:
		n += len(re.Rune) / 16 // one instruction that looks at its ranges
	}
	for _, sub := range re.Sub {
		n += weight(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, 1<<30)
}

// compilePattern compiles a regular expression of JavaScript, as far as it needs no
// more than linear time.
func compilePattern(text string) (*regexp.Regexp, error) {
	text = unicodeEscape.ReplaceAllString(text, `\x{$1}`)
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err == nil && weight(parsed) > maxPatternWeight {
		return nil, errors.New("its pattern is too large, with all that its counted repetitions stand for")
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("its pattern cannot be used, as it may take unbounded time (look-around, back references) or is wrong: %w", err)
	}
	return re, nil
}

// running are the matchers of a job while they look at the output of one process: each
// keeps what earlier lines matched.
type running struct {
	list   *[]*matcher
	states [][]*problem // by matcher, by pattern but the last
}

func newRunning(list *[]*matcher) *running {
	r := &running{list: list}
	for _, m := range *list {
		r.states = append(r.states, make([]*problem, len(m.patterns)-1))
	}
	return r
}

// match looks at a line. Of the matchers the first that ends a match counts; the
// others then begin anew.
func (r *running) match(line string) (problem, *matcher, bool) {
	for i, m := range *r.list {
		p, ok := m.step(r.states[i], line)
		if !ok {
			continue
		}
		for k := range r.states {
			if k != i {
				clear(r.states[k])
			}
		}
		return p, m, true
	}
	return problem{}, nil, false
}

// step moves the matcher on by a line. Patterns are tried from the last to the
// first, so that a line counts once for each beginning.
func (m *matcher) step(state []*problem, line string) (problem, bool) {
	for i := len(m.patterns) - 1; i >= 0; i-- {
		before := &problem{}
		if i > 0 {
			if before = state[i-1]; before == nil {
				continue
			}
		}
		pat, last := &m.patterns[i], i == len(m.patterns)-1
		groups := pat.re.FindStringSubmatch(line)
		switch {
		case groups != nil && last:
			found := before.with(pat, groups)
			clear(state)
			if pat.loop {
				state[i-1] = before
			}
			return found, true
		case groups != nil:
			p := before.with(pat, groups)
			state[i] = &p
		case last && i > 0:
			state[i-1] = nil
		case !last:
			state[i] = nil
		}
	}
	return problem{}, false
}

// addMatchers makes the matchers of a file the job's; those of an owner replace
// the earlier ones.
func (j *job) addMatchers(list []*matcher) error {
	return j.changeMatchers(func(m *matcher) bool {
		return !slices.ContainsFunc(list, func(x *matcher) bool { return strings.EqualFold(x.owner, m.owner) })
	}, list)
}

// removeMatchers forgets the matcher of the owner.
func (j *job) removeMatchers(owner string) error {
	return j.changeMatchers(func(m *matcher) bool { return !strings.EqualFold(m.owner, owner) }, nil)
}

func (j *job) changeMatchers(keep func(*matcher) bool, more []*matcher) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []*matcher
	if old := j.matchers.Load(); old != nil {
		for _, m := range *old {
			if keep(m) {
				all = append(all, m)
			}
		}
	}
	if all = append(all, more...); len(all) > maxMatchers {
		return sallyport.Errorf(sallyport.CodeInvalid, "a job has at most %d problem matchers", maxMatchers)
	}
	j.matchers.Store(&all)
	return nil
}

// watching reports whether the output of steps is looked at line by line.
func (j *job) watching() bool {
	list := j.matchers.Load()
	return list != nil && len(*list) > 0
}

// find looks for a problem that a line of output ends, and returns what makes an
// annotation of it; nil when there is none.
func (s *step) find(line string) func() {
	list := s.job.matchers.Load()
	if list == nil || len(*list) == 0 || len(line) > maxMatched {
		return nil
	}
	if s.running == nil || s.running.list != list {
		s.running = newRunning(list)
	}
	plain := line
	if strings.IndexByte(line, 0x1b) >= 0 {
		text, _ := clean(nil, []byte(line))
		plain = withoutSGR(text)
	}
	p, m, ok := s.running.match(plain)
	if !ok {
		return nil
	}
	severity := p.severity
	if severity == "" {
		severity = m.severity
	}
	kind, ok := severities[strings.ToLower(severity)]
	if !ok || strings.TrimSpace(p.message) == "" {
		return nil
	}
	return func() {
		s.out.print(kind, line)
		s.attach(sallyport.Annotation{
			Level: string(kind), Message: p.message, Title: p.code, File: s.job.layout.inRepository(p.file, p.fromPath),
			Line: position(p.line), Col: position(p.col), EndLine: position(p.endLine), EndCol: position(p.endCol),
		})
	}
}

// severities are those that a problem may have; error when nothing is said.
var severities = map[string]sallyport.LogKind{
	"": sallyport.LogError, "error": sallyport.LogError, "warning": sallyport.LogWarning, "notice": sallyport.LogNotice,
}

// addMatcherFile reads the file that an add-matcher command names.
func (s *step) addMatcherFile(name string) {
	b, err := s.job.layout.readRoom(s.job.layout.inWorkspace(name), maxMatcherFile)
	if err != nil {
		s.refuse(fmt.Sprintf("the problem matcher file %.200q cannot be read: %v", name, err), "name a file of the workspace or of the action")
		return
	}
	list, refused, err := parseMatchers(b)
	if err == nil {
		err = s.job.addMatchers(list)
	}
	if err != nil {
		s.refuse(err.Error(), "")
		return
	}
	for _, why := range refused {
		s.out.print(sallyport.LogWarning, why)
	}
	for _, m := range list {
		s.out.print(sallyport.LogDebug, "The problem matcher "+m.owner+" looks at the output from here on.")
	}
}

// removeMatcher obeys a remove-matcher command, which names an owner, or the file that
// was added.
func (s *step) removeMatcher(c workflow.Command) {
	owners := []string{c.Prop("owner")}
	if owners[0] == "" {
		b, err := s.job.layout.readRoom(s.job.layout.inWorkspace(c.Value), maxMatcherFile)
		var list []*matcher
		if err == nil {
			list, _, err = parseMatchers(b)
		}
		if err != nil {
			s.refuse("remove-matcher needs the owner of a problem matcher, or the file of one", "write ::remove-matcher owner=OWNER::")
			return
		}
		owners = owners[:0]
		for _, m := range list {
			owners = append(owners, m.owner)
		}
	}
	for _, owner := range owners {
		_ = s.job.removeMatchers(owner) // fewer of them are never too many
	}
}
