package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Event is what happened to a repository.
type Event struct {
	Name        string   // "push", "pull_request", "workflow_dispatch", …
	Action      string   // activity type, for example "opened"; "" for none
	Ref         string   // full name: refs/heads/main, refs/tags/v1
	BaseRef     string   // of a pull request: the branch it goes to, full or short; of a workflow_run: the other run's
	Workflow    string   // of a workflow_run: the name of the other run's workflow
	Changed     []string // paths that differ, for path filters
	ChangedMore bool     // there are more than these: path filters count as matching
	Payload     json.RawMessage
	Inputs      json.RawMessage // of workflow_dispatch: an object of names to values
}

// Matches reports whether the event triggers the workflow, and why or why not,
// in one line. Events that the language knows and Sallyport does not raise
// simply never match.
func (f *File) Matches(e Event) (ok bool, why string) {
	for _, t := range f.On {
		if t.Name == e.Name {
			return t.matches(e)
		}
	}
	var names []string
	for _, t := range f.On {
		names = append(names, t.Name)
	}
	return false, fmt.Sprintf("the workflow is triggered by %s, not by %s", strings.Join(names, ", "), e.Name)
}

func (t *Trigger) matches(e Event) (bool, string) {
	if ok, why := t.matchesType(e.Action); !ok {
		return false, why
	}
	if t.Name == "workflow_run" && t.Workflows != nil {
		if !slices.ContainsFunc(t.Workflows, func(x sallyport.Template) bool { return x.Text == e.Workflow }) {
			return false, fmt.Sprintf("it waits for other workflows than %s", quote(e.Workflow))
		}
	}
	switch t.Name {
	case "push":
		if ok, why := t.matchesRef(e.Ref); !ok {
			return false, why
		}
		if strings.HasPrefix(e.Ref, "refs/tags/") { // path filters are not evaluated for tags
			return true, "pushed " + e.Ref
		}
	case "pull_request", "pull_request_target", "pull_request_review", "pull_request_review_comment", "pull_request_comment", "merge_group", "workflow_run":
		base := strings.TrimPrefix(e.BaseRef, "refs/heads/")
		if ok, why := filter(t.Branches, t.BranchesIgnore, base, "branch"); !ok {
			return false, why
		}
	}
	if ok, why := t.matchesPaths(e); !ok {
		return false, why
	}
	if e.Action != "" {
		return true, e.Name + " " + e.Action
	}
	return true, e.Name
}

func (t *Trigger) matchesType(action string) (bool, string) {
	types := events[t.Name].defaults
	if t.Types != nil {
		types = nil
		for _, x := range t.Types {
			types = append(types, x.Text)
		}
	}
	if types == nil || action == "" && t.Types == nil || slices.Contains(types, action) {
		return true, ""
	}
	return false, fmt.Sprintf("%s %s is none of the types %s", t.Name, action, strings.Join(types, ", "))
}

// matchesRef applies the branch and tag filters of a push. With filters for
// one kind of ref alone, the other kind does not match.
func (t *Trigger) matchesRef(ref string) (bool, string) {
	branches := t.Branches != nil || t.BranchesIgnore != nil
	tags := t.Tags != nil || t.TagsIgnore != nil
	if name, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		if branches && !tags {
			return false, "the workflow filters branches; tags do not trigger it"
		}
		return filter(t.Tags, t.TagsIgnore, name, "tag")
	}
	if tags && !branches {
		return false, "the workflow filters tags; branches do not trigger it"
	}
	return filter(t.Branches, t.BranchesIgnore, strings.TrimPrefix(ref, "refs/heads/"), "branch")
}

func (t *Trigger) matchesPaths(e Event) (bool, string) {
	if e.ChangedMore || t.Paths == nil && t.PathsIgnore == nil {
		return true, ""
	}
	for _, p := range e.Changed {
		if ok, _ := filter(t.Paths, t.PathsIgnore, p, "path"); ok {
			return true, ""
		}
	}
	return false, fmt.Sprintf("none of the %d changed paths matches the path filters", len(e.Changed))
}

// filter applies one pair of filters to a name. Of the patterns that match,
// the last one decides; one that starts with ! leaves the name out.
func filter(include, ignore []sallyport.Template, name, what string) (bool, string) {
	switch {
	case include != nil && !selected(include, name):
		return false, fmt.Sprintf("the %s %s is not among those that trigger the workflow", what, quote(name))
	case ignore != nil && selected(ignore, name):
		return false, fmt.Sprintf("the %s %s is ignored by the workflow", what, quote(name))
	}
	return true, ""
}

func selected(patterns []sallyport.Template, name string) bool {
	in := false
	for _, p := range patterns {
		pattern, negative := strings.CutPrefix(p.Text, "!")
		if in == negative && matchPattern(pattern, name) {
			in = !negative
		}
	}
	return in
}

// globKind is what an atom of a pattern matches.
type globKind uint8

const (
	globChar  globKind = iota // itself
	globClass                 // one of a set
	globStar                  // *: any number of characters but /
	globAny                   // **: any number of characters
	globDirs                  // **/ : nothing, or anything up to and including a /
)

// atom is one element of a filter pattern, with the quantifier that follows it.
type atom struct {
	kind     globKind
	char     rune
	class    []runeRange
	min, max int // repetitions; max -1 is unbounded
}

type runeRange struct{ low, high rune }

func (a *atom) matches(r rune) bool {
	if a.kind == globChar {
		return a.char == r
	}
	return slices.ContainsFunc(a.class, func(c runeRange) bool { return c.low <= r && r <= c.high })
}

// checkPattern reports whether a filter pattern is well formed.
func checkPattern(pattern string) error {
	if len(pattern) > maxPatternBytes {
		return fmt.Errorf("it is longer than %d bytes", maxPatternBytes)
	}
	_, err := parsePattern(pattern)
	return err
}

// parsePattern reads a filter pattern: * ** ? + [] and \ (GitHub's
// documentation, "Filter pattern cheat sheet").
func parsePattern(pattern string) ([]atom, error) {
	if pattern == "" {
		return nil, errors.New("it is empty")
	}
	var out []atom
	rs := []rune(pattern)
	for i := 0; i < len(rs); i++ {
		a := atom{kind: globChar, char: rs[i], min: 1, max: 1}
		switch rs[i] {
		case '\\':
			if i++; i == len(rs) {
				return nil, errors.New("there is nothing after the last \\")
			}
			a.char = rs[i]
		case '*':
			a.kind = globStar
			for i+1 < len(rs) && rs[i+1] == '*' {
				a.kind = globAny
				i++
			}
			if a.kind == globAny && i+1 < len(rs) && rs[i+1] == '/' && (len(out) == 0 || out[len(out)-1].kind == globChar && out[len(out)-1].char == '/') {
				a.kind = globDirs
				i++
			}
		case '?', '+':
			if len(out) == 0 || out[len(out)-1].kind > globClass || out[len(out)-1].max != out[len(out)-1].min {
				return nil, fmt.Errorf("there is no character before %c that it could apply to; write \\%c for the character itself", rs[i], rs[i])
			}
			if last := &out[len(out)-1]; rs[i] == '?' {
				last.min = 0
			} else {
				last.max = -1
			}
			continue
		case '[':
			end, class, err := parseClass(rs, i+1)
			if err != nil {
				return nil, err
			}
			a.kind, a.class, i = globClass, class, end
		}
		out = append(out, a)
	}
	return out, nil
}

// parseClass reads a set of characters up to its ] and returns the place of that.
func parseClass(rs []rune, i int) (end int, class []runeRange, err error) {
	for ; i < len(rs); i++ {
		if rs[i] == ']' {
			if len(class) == 0 {
				return 0, nil, errors.New("the set [] is empty")
			}
			return i, class, nil
		}
		low := rs[i]
		if low == '\\' && i+1 < len(rs) {
			i++
			low = rs[i]
		}
		r := runeRange{low: low, high: low}
		if i+2 < len(rs) && rs[i+1] == '-' && rs[i+2] != ']' {
			r.high = rs[i+2]
			i += 2
		}
		if r.low > r.high {
			return 0, nil, fmt.Errorf("the range %c-%c is in the wrong order", r.low, r.high)
		}
		class = append(class, r)
	}
	return 0, nil, errors.New("the set [ is not closed with ]")
}

// matchPattern reports whether the whole name matches the pattern. A pattern
// that is malformed, or too costly to match, matches nothing.
func matchPattern(pattern, name string) bool {
	atoms, err := parsePattern(pattern)
	if err != nil {
		return false
	}
	rs := []rune(name)
	// reach[j] says that the atoms so far can match the first j characters.
	reach, next := make([]bool, len(rs)+1), make([]bool, len(rs)+1)
	reach[0] = true
	if (len(atoms)+1)*(len(rs)+1) > maxMatchSteps {
		return false
	}
	for i := range atoms {
		clear(next)
		step(&atoms[i], rs, reach, next)
		reach, next = next, reach
	}
	return reach[len(rs)]
}

// step computes what one atom more can reach.
func step(a *atom, rs []rune, reach, next []bool) {
	switch a.kind {
	case globStar, globAny:
		open := false
		for j := range reach {
			open = open || reach[j]
			next[j] = open
			if j < len(rs) && a.kind == globStar && rs[j] == '/' {
				open = false
			}
		}
	case globDirs:
		open := false
		for j := range reach {
			next[j] = reach[j] || open && j > 0 && rs[j-1] == '/'
			open = open || reach[j]
		}
	default:
		repeat := false
		for j := range reach {
			next[j] = a.min == 0 && reach[j] || j > 0 && (reach[j-1] || repeat) && a.matches(rs[j-1])
			repeat = a.max < 0 && next[j] && j > 0 && (reach[j-1] || repeat) && a.matches(rs[j-1])
		}
	}
}
