package workflow

import (
	"regexp"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// origin says who can have written a value, as far as that can be told before
// a run. At run time values carry a taint mark (taint.go); this is its shadow.
type origin uint8

const (
	ours     origin = iota // the workflow's author, or a form that holds no code
	member                 // who may push, dispatch or call
	outsider               // anyone
)

func (o origin) String() string {
	return [...]string{"the workflow", "whoever may push, dispatch or call it", "anyone"}[o]
}

// maxOriginDepth bounds how far a value is followed through env, outputs and
// inputs; real workflows need three or four steps.
const maxOriginDepth = 12

// origins follows values of one file to where they come from.
type origins struct {
	s     *subject
	depth int
}

// of returns the origin of an expression's value as text.
func (o *origins) of(n *node, j *jobView, st *stepView) origin {
	switch n.op {
	case opLiteral, opNot, opEqual, opUnequal, opLess, opLessEqual, opGreater, opGreaterEqual:
		return ours
	case opAnd: // the value of all but the last is falsy: no text
		return o.of(n.args[len(n.args)-1], j, st)
	case opCall:
		switch n.name {
		case "format", "join", "tojson", "fromjson", "case":
			return o.most(n.args, j, st)
		}
		return ours
	case opOr:
		return o.most(n.args, j, st)
	}
	c := chainOf(n)
	if c == nil { // an index of a call's result
		return o.most(n.args, j, st)
	}
	return o.chain(c, j, st)
}

func (o *origins) most(nodes []*node, j *jobView, st *stepView) (out origin) {
	for _, n := range nodes {
		out = max(out, o.of(n, j, st))
	}
	return out
}

// originKey is a text with the job and the step in which it is evaluated.
type originKey struct {
	text string
	job  *jobView
	step *stepView
}

// text returns the origin of a template's value.
func (o *origins) text(t sallyport.Template, j *jobView, st *stepView) (out origin) {
	if !isExpr(t.Text) || o.depth > maxOriginDepth {
		return ours
	}
	key := originKey{t.Text, j, st}
	if known, ok := o.s.origins[key]; ok { // also of one that leads back to itself
		return known
	}
	if !o.s.afford(len(t.Text)) {
		return ours
	}
	o.s.origins[key] = ours
	o.depth++
	defer func() { o.depth--; o.s.origins[key] = out }()
	segs, err := parseTemplate(t.Text, isContext)
	if err != nil {
		return ours
	}
	for _, seg := range segs {
		if seg.expr != nil {
			out = max(out, o.of(seg.expr, j, st))
		}
	}
	return out
}

func (o *origins) tree(t sallyport.Tree, j *jobView) origin {
	out := ours
	if t.Kind == sallyport.TreeString {
		out = o.text(sallyport.Template{Text: t.Text}, j, nil)
	}
	for _, i := range t.Items {
		out = max(out, o.tree(i, j))
	}
	for _, p := range t.Pairs {
		out = max(out, o.tree(p.Value, j))
	}
	return out
}

func (o *origins) chain(c chain, j *jobView, st *stepView) origin {
	switch {
	case c.is("github"):
		return originOfGitHub(c[1:])
	case c.is("inputs"):
		return o.input(c)
	case len(c) == 2 && c.is("env"):
		return o.env(c[1], j, st)
	case len(c) >= 4 && c.is("steps", "", "outputs") && j != nil:
		return o.output(j.step(c[1]), c[3], st)
	case len(c) >= 4 && c.is("needs", "", "outputs"):
		need := o.s.job(c[1])
		if need == nil {
			return ours
		}
		for _, p := range need.Outputs.Pairs {
			if equalFold(p.Key.Text, c[3]) {
				return o.text(sallyport.Template{Text: p.Value.Text}, need, nil)
			}
		}
	case c.is("matrix") && j != nil:
		return o.matrix(c, j)
	}
	return ours
}

// originOfGitHub tells the origin of github.<path>, by the names that mark
// values at run time.
func originOfGitHub(path []string) origin {
	if len(path) == 0 || path[0] == "?" || path[0] == "*" {
		return outsider
	}
	switch first := foldCase(path[0]); {
	case first == "head_ref":
		return outsider
	case slices.Contains(taintedFields, first):
		return member
	case first != "event":
		return ours
	}
	names := slices.DeleteFunc(slices.Clone(path[1:]), func(n string) bool { return n == "*" || n == "?" })
	for i := range names {
		names[i] = foldCase(names[i])
	}
	if len(names) == 0 || len(names) == 1 && len(path) > 2 {
		return outsider // all of the event, or of a part of it
	}
	if slices.Contains(ownTrees, names[0]) {
		return ours
	}
	last, parent := names[len(names)-1], ""
	if len(names) > 1 {
		parent = names[len(names)-2]
	}
	// Labels, milestones, releases and dispatched payloads are written by members.
	byMembers := []string{"label", "labels", "milestone", "release", "client_payload", "inputs", "deployment"}
	switch {
	case names[0] == "inputs" || names[0] == "client_payload":
		return member
	case slices.Contains(taintedKeys, last), slices.Contains(taintedPerson, last) && slices.Contains(taintedPeople, parent):
		if slices.Contains(byMembers, names[0]) || slices.Contains(byMembers, parent) || last == "ref" && len(names) == 1 {
			return member
		}
		return outsider
	case len(names) == 1 && slices.Contains([]string{"pull_request", "issue", "comment", "review", "discussion", "head_commit", "commits", "workflow_run", "pages"}, last):
		return outsider // as a whole
	case last == "commits" || last == "pages":
		return outsider
	}
	return ours
}

// input tells the origin of inputs.<name>. Those with a type that holds no
// free text are as good as ours.
func (o *origins) input(c chain) origin {
	if len(c) < 2 || o.s.file == nil {
		return member
	}
	for _, event := range []string{"workflow_dispatch", "workflow_call"} {
		t := o.s.trigger(event)
		if t == nil {
			continue
		}
		for _, in := range t.Inputs {
			if equalFold(in.Name, c[1]) && in.Type == "string" {
				return member
			}
		}
	}
	return ours
}

// env tells the origin of env.<name> by the nearest definition.
func (o *origins) env(name string, j *jobView, st *stepView) origin {
	find := func(t sallyport.Tree, j *jobView) (origin, bool) {
		for _, p := range t.Pairs {
			if o.s.afford(1) && p.Key.Text == name {
				return o.text(sallyport.Template{Text: p.Value.Text}, j, nil), true
			}
		}
		return ours, false
	}
	if st != nil {
		if out, ok := find(st.Env, j); ok {
			return out
		}
	}
	if j != nil {
		if out, ok := find(j.Env, j); ok {
			return out
		}
	}
	if o.s.file != nil {
		out, _ := find(o.s.file.Env, nil)
		return out
	}
	return ours
}

// outsiderOutputs are well-known actions that hand on what outsiders wrote: file
// names, branch names, titles and bodies. "" stands for all outputs.
var outsiderOutputs = map[string][]string{
	"tj-actions/changed-files":                  {""},
	"tj-actions/branch-names":                   {"current_branch", "head_ref_branch", "ref_branch"},
	"dorny/paths-filter":                        {""},
	"jitterbit/get-changed-files":               {""},
	"trilom/file-changes-action":                {""},
	"xt0rted/pull-request-comment-branch":       {"head_ref"},
	"eficode/resolve-pr-refs":                   {"head_ref"},
	"potiuk/get-workflow-origin":                {"sourceheadbranch", "targetbranch"},
	"peter-evans/find-comment":                  {"comment-body"},
	"8bitjonny/gh-get-current-pr":               {"pr_title", "pr_body"},
	"khan/pull-request-comment-trigger":         {"comment_body"},
	"gotson/pull-request-comment-branch":        {"head_ref"},
	"amannn/action-semantic-pull-request":       {"error_message"},
	"alessbell/pull-request-comment-branch":     {"head_ref"},
	"rlespinasse/github-slug-action":            {""},
	"frabert/replace-string-action":             {"replaced"},
	"zentered/issue-forms-body-parser":          {""},
	"stefanbuck/github-issue-parser":            {""},
	"peter-murray/issue-forms-body-parser":      {""},
	"github/issue-parser":                       {""},
	"mikepenz/release-changelog-builder-action": {"changelog"},
}

// output tells the origin of a step's output. Of a script it is that of the
// values that reach it, if it writes such an output at all.
func (o *origins) output(of *stepView, name string, reader *stepView) origin {
	if of == nil || of == reader || o.depth > maxOriginDepth || !o.s.afford(len(of.Run.Text)) {
		return ours
	}
	if names, ok := outsiderOutputs[of.name]; ok {
		if names[0] == "" || slices.Contains(names, foldCase(name)) {
			if of.job.startedBy(fromOutside...) {
				return outsider
			}
			return member
		}
		return ours
	}
	if of.Run.IsZero() || !strings.Contains(of.Run.Text, "GITHUB_OUTPUT") && !strings.Contains(of.Run.Text, "set-output") {
		return ours
	}
	o.depth++
	defer func() { o.depth-- }()
	out := ours
	for _, line := range outputLines(of.Run.Text, name) {
		out = max(out, o.text(sallyport.Template{Text: line}, of.job, of))
		for _, p := range of.Env.Pairs {
			if o.s.afford(len(line)) && readsVariable(line, p.Key.Text) {
				out = max(out, o.text(sallyport.Template{Text: p.Value.Text}, of.job, nil))
			}
		}
	}
	return out
}

// outputLines are the lines of a script that name an output.
func outputLines(script, name string) (out []string) {
	for line := range strings.SplitSeq(script, "\n") {
		if i := strings.Index(line, name); i >= 0 && strings.ContainsAny(line[i+len(name):], "=<:") {
			out = append(out, line)
		}
	}
	return out
}

// readsVariable reports whether a line of a script expands a variable.
func readsVariable(line, name string) bool {
	for rest := line; ; {
		i := strings.Index(rest, name)
		if i < 0 {
			return false
		}
		before, after := rest[:i], rest[i+len(name):]
		if (strings.HasSuffix(before, "$") || strings.HasSuffix(before, "${") || strings.HasSuffix(before, "env:")) && !wordStart.MatchString(after) {
			return true
		}
		rest = after
	}
}

var wordStart = regexp.MustCompile(`^[A-Za-z0-9_]`)

// matrix tells the origin of matrix.<vector>.
func (o *origins) matrix(c chain, j *jobView) origin {
	m := j.Strategy.Matrix
	if m.Kind != sallyport.TreeMap {
		return o.tree(m, j)
	}
	out := ours
	for _, p := range m.Pairs {
		if len(c) < 2 || equalFold(p.Key.Text, c[1]) || equalFold(p.Key.Text, "include") || isInsert(p.Key.Text) {
			out = max(out, o.tree(p.Value, j))
		}
	}
	return out
}

// Events by who can cause them.
var (
	// fromForks run the code of a stranger's proposal without secrets.
	fromForks = []string{"pull_request", "pull_request_review", "pull_request_review_comment"}
	// privileged run with the repository's secrets and are caused by anyone.
	privileged = []string{"pull_request_target", "workflow_run", "issue_comment", "issues", "discussion", "discussion_comment", "fork", "watch"}
	// fromOutside are both.
	fromOutside = append(slices.Clone(fromForks), privileged...)
)
