package workflow

import (
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
)

// subject is a file as rules see it.
type subject struct {
	path     string
	file     *File   // nil of an action
	action   *Action // nil of a workflow
	jobs     []*jobView
	sites    []site // in the order of the file, more or less
	read     func(path string) ([]byte, error)
	locked   func(uses string) bool
	labels   []string
	decoder  *decoder
	root     *yaml.Node
	lines    []string
	scalars  map[sallyport.Pos]*yaml.Node
	mappings map[sallyport.Pos]*yaml.Node

	work    int // left of maxLintWork
	origins map[originKey]origin
	actions map[string]*Action  // read before, by directory
	calls   map[string]*Trigger // read before, by path
}

// jobView is a job with what rules ask for. The steps of a composite action
// are those of a job without a key.
type jobView struct {
	*Job
	node   *yaml.Node // its mapping
	steps  []*stepView
	events []string // that can start it, as far as its if tells
}

// stepView is a step with what rules ask for.
type stepView struct {
	*sallyport.PlanStep
	node   *yaml.Node
	job    *jobView
	index  int           // in job.steps, those of a parallel group after the group
	group  *stepView     // the parallel group that it is part of; nil if of none
	usesAt sallyport.Pos // of the value of uses
	name   string        // owner/repository[/path] of a remote action, in lower case
	ref    string        // what follows its @
}

// site is a scalar that holds expressions.
type site struct {
	job   *jobView  // nil above the jobs
	step  *stepView // nil outside of steps
	field string    // run, with, env, if, …
	name  string    // of the entry: a variable, an input, an output
	text  sallyport.Template
	segs  []segment
}

// newSubject parses a file; nil and its errors if it is invalid.
func newSubject(in LintInput) (*subject, []sallyport.Diagnostic) {
	s := &subject{
		path: in.Path, read: in.ReadFile, locked: in.Locked, labels: in.Labels,
		scalars: map[sallyport.Pos]*yaml.Node{}, mappings: map[sallyport.Pos]*yaml.Node{},
		work: maxLintWork, origins: map[originKey]origin{}, actions: map[string]*Action{}, calls: map[string]*Trigger{},
	}
	var diags []sallyport.Diagnostic
	if IsActionFile(in.Path) {
		s.action, diags = ParseAction(in.Path, in.Src)
	} else {
		s.file, diags = Parse(in.Path, in.Src)
	}
	if s.file != nil && !hasErrors(diags) {
		var graph diagnostics
		report := func(pos sallyport.Pos, format string, args ...any) {
			graph.add(in.Path, severityError, pos, format, args...)
		}
		s.file.order(report, func(sallyport.Pos, string, ...any) {})
		diags = append(diags, graph.list...)
	}
	if hasErrors(diags) || s.action == nil && s.file == nil {
		return nil, slices.DeleteFunc(diags, func(d sallyport.Diagnostic) bool { return d.Severity != severityError })
	}
	s.decoder = &decoder{path: in.Path, src: in.Src}
	s.root = s.decoder.document()
	s.lines = yamlLines(string(in.Src))
	s.index(s.root)
	if s.file != nil {
		for i := range s.file.Jobs {
			s.addJob(&s.file.Jobs[i])
		}
		s.workflowSites()
	} else {
		s.addJob(&Job{PlanJob: sallyport.PlanJob{Pos: sallyport.Pos{Line: 1, Col: 1}}, StepsAt: s.action.Steps})
		for _, o := range s.action.Outputs {
			s.addText(site{job: s.jobs[0], field: "outputs", name: o.Name}, o.Value)
		}
	}
	for _, j := range s.jobs {
		s.jobSites(j)
	}
	return s, nil
}

// yamlLines splits a file as YAML counts its lines.
func yamlLines(src string) []string {
	unify := strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")
	return strings.Split(unify.Replace(src), "\n")
}

// index notes where nodes are. The file's bounds bound it: an anchor's nodes
// are walked once for each alias, at most maxYAMLNodes in all.
func (s *subject) index(n *yaml.Node) {
	switch n.Kind {
	case yaml.ScalarNode:
		s.scalars[posOf(n)] = n
	case yaml.MappingNode:
		s.mappings[posOf(n)] = n
	}
	for _, c := range n.Content {
		s.index(c)
	}
}

// afford takes n of the work that is left; false if there is not as much.
func (s *subject) afford(n int) bool {
	if s.work < n {
		return false
	}
	s.work -= n
	return true
}

func (s *subject) addJob(job *Job) {
	j := &jobView{Job: job}
	if _, jobs := lookup(s.root, "jobs"); jobs != nil {
		_, j.node = lookup(jobs, job.Key)
	}
	s.addSteps(j)
	j.events = s.narrowed(job.If, s.eventNames())
	s.jobs = append(s.jobs, j)
}

func (s *subject) addSteps(j *jobView) {
	j.steps = make([]*stepView, 0, len(j.StepsAt))
	for i := range j.StepsAt {
		s.addStep(j, &j.StepsAt[i].PlanStep, nil)
	}
}

func (s *subject) addStep(j *jobView, step *sallyport.PlanStep, group *stepView) {
	v := &stepView{PlanStep: step, node: s.mappings[step.Pos], job: j, index: len(j.steps), group: group, usesAt: step.Pos}
	if _, n := lookup(v.node, "uses"); n != nil {
		v.usesAt = posOf(n)
	}
	if !strings.HasPrefix(step.Uses, "./") && !strings.HasPrefix(step.Uses, "$/") && !strings.HasPrefix(step.Uses, "docker://") {
		name, ref, _ := strings.Cut(step.Uses, "@")
		v.name, v.ref = strings.ToLower(name), ref
	}
	j.steps = append(j.steps, v)
	for i := range step.Parallel {
		s.addStep(j, &step.Parallel[i], v)
	}
}

// lookup returns an entry of a mapping; nil if there is none.
func lookup(n *yaml.Node, key string) (k, v *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

// keyPos is the place of a key of a mapping, otherwise if there is none.
func keyPos(n *yaml.Node, key string, otherwise sallyport.Pos) sallyport.Pos {
	if k, _ := lookup(n, key); k != nil {
		return posOf(k)
	}
	return otherwise
}

// line returns a line of the file, counted from 1.
func (s *subject) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	return s.lines[n-1]
}

// within is the place of a byte of a scalar's text.
func (s *subject) within(t sallyport.Template, off int) sallyport.Pos {
	n := s.scalars[t.Pos]
	if n == nil {
		return t.Pos
	}
	return s.decoder.within(n, t.Text, off)
}

// eventNames are the events of the workflow's on; of an action none.
func (s *subject) eventNames() []string {
	var out []string
	if s.file != nil {
		for _, t := range s.file.On {
			out = append(out, t.Name)
		}
	}
	return out
}

// trigger returns the trigger of an event, nil if the workflow has none.
func (s *subject) trigger(event string) *Trigger {
	if s.file != nil {
		for i := range s.file.On {
			if s.file.On[i].Name == event {
				return &s.file.On[i]
			}
		}
	}
	return nil
}

func (s *subject) job(key string) *jobView {
	for _, j := range s.jobs {
		if equalFold(j.Key, key) {
			return j
		}
	}
	return nil
}

func (j *jobView) step(id string) *stepView {
	for _, st := range j.steps {
		if st.ID != "" && equalFold(st.ID, id) {
			return st
		}
	}
	return nil
}

// allSteps returns the steps of all jobs.
func (s *subject) allSteps() (out []*stepView) {
	for _, j := range s.jobs {
		out = append(out, j.steps...)
	}
	return out
}

// input returns a step's input as written; false if it is not given.
func (st *stepView) input(name string) (sallyport.Tree, bool) {
	for _, p := range st.With.Pairs {
		if equalFold(p.Key.Text, name) {
			return p.Value, true
		}
	}
	return sallyport.Tree{}, false
}

// startedBy reports whether one of the events can start the job.
func (j *jobView) startedBy(events ...string) bool {
	return slices.ContainsFunc(events, func(e string) bool { return slices.Contains(j.events, e) })
}

// events returns those that can reach the step, as far as its if tells.
func (s *subject) stepEvents(st *stepView) []string { return s.narrowed(st.If, st.job.events) }

func (s *subject) addText(at site, t sallyport.Template) {
	if !isExpr(t.Text) || isInsert(t.Text) {
		return
	}
	segs, err := parseTemplate(t.Text, isContext)
	if err == nil {
		at.text, at.segs = t, segs
		s.sites = append(s.sites, at)
	}
}

func (s *subject) addCondition(at site, t sallyport.Template) {
	if segs, err := parseCondition(t.Text, isContext); err == nil && segs != nil {
		at.text, at.segs = t, segs
		s.sites = append(s.sites, at)
	}
}

// addTree adds the scalars of a tree; entries directly in it give their names.
func (s *subject) addTree(at site, t sallyport.Tree) {
	if t.Kind == sallyport.TreeString {
		s.addText(at, sallyport.Template{Text: t.Text, Pos: t.Pos})
	}
	for _, i := range t.Items {
		s.addTree(at, i)
	}
	for _, p := range t.Pairs {
		below := at
		if below.name == "" {
			below.name = p.Key.Text
		}
		s.addText(below, p.Key)
		s.addTree(below, p.Value)
	}
}

func (s *subject) addConcurrency(at site, c *sallyport.PlanConcurrency) {
	if c != nil {
		s.addText(at, c.Group)
		s.addText(at, c.CancelInProgress)
		s.addText(at, c.QueueExpr)
	}
}

func (s *subject) workflowSites() {
	f := s.file
	for _, t := range f.On {
		for _, in := range t.Inputs {
			s.addTree(site{field: "on", name: in.Name}, in.Default)
		}
		for _, o := range t.Outputs {
			s.addText(site{field: "on", name: o.Name}, o.Value)
		}
	}
	s.addText(site{field: "run-name"}, f.RunName)
	s.addTree(site{field: "env"}, f.Env)
	s.addConcurrency(site{field: "concurrency"}, f.Concurrency)
}

func (s *subject) jobSites(j *jobView) {
	at := func(field string) site { return site{job: j, field: field} }
	s.addText(at("name"), j.Name)
	s.addCondition(at("if"), j.If)
	s.addTree(at("runs-on"), j.RunsOn)
	s.addTree(at("matrix"), j.Strategy.Matrix)
	s.addText(at("strategy"), j.Strategy.FailFast)
	s.addText(at("strategy"), j.Strategy.MaxParallel)
	s.addTree(at("environment"), j.Environment)
	s.addConcurrency(at("concurrency"), j.Concurrency)
	s.addTree(at("env"), j.Env)
	s.addText(at("shell"), j.Defaults.Shell)
	s.addText(at("working-directory"), j.Defaults.WorkingDirectory)
	s.addText(at("timeout-minutes"), j.TimeoutMinutes)
	s.addText(at("continue-on-error"), j.ContinueOnError)
	s.addTree(at("container"), j.Container)
	s.addTree(at("services"), j.Services)
	s.addTree(at("with"), j.With)
	s.addTree(at("secrets"), j.Secrets)
	for _, st := range j.steps {
		at := func(field string) site { return site{job: j, step: st, field: field} }
		s.addText(at("name"), st.Name)
		s.addCondition(at("if"), st.If)
		s.addTree(at("env"), st.Env)
		s.addTree(at("with"), st.With)
		s.addText(at("run"), st.Run)
		s.addText(at("shell"), st.Shell)
		s.addText(at("working-directory"), st.WorkingDirectory)
		s.addText(at("continue-on-error"), st.ContinueOnError)
		s.addText(at("timeout-minutes"), st.TimeoutMinutes)
	}
	s.addTree(at("outputs"), j.Outputs)
}
