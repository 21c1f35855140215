package engine

import (
	"context"
	"net/url"
	"path"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/environment"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// Rules of environments. The protected branch declares them, whatever branch a
// job comes from; a job that names an environment meets them before its runner.

// maxEnvironmentName is GitHub's bound.
const maxEnvironmentName = 255

// rules reads what the protected branch declares now.
func (e *Engine) rules(ctx context.Context, p sallyport.Project, push sallyport.Push) (*sallyport.PlanRules, error) {
	refs, err := e.repos.Refs(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	rules := &sallyport.PlanRules{Commit: refs[p.DefaultRef()]}
	from := rules.Commit
	if e.ownEgress {
		from = push.Commit
	}
	reach, err := e.egressRules(ctx, p.ID, from)
	if err != nil {
		return nil, err
	}
	rules.Egress = &reach
	if rules.Commit == "" {
		return rules, nil
	}
	declared, err := e.declared(ctx, p.ID, rules.Commit)
	if sallyport.ErrorCode(err) == sallyport.CodeInvalid { // fail closed, and only where it matters
		rules.Broken = userText(err)
		return rules, nil
	}
	if err != nil {
		return nil, err
	}
	rules.Audiences = declared.Audiences
	for _, s := range declared.Environments {
		if s.Holds() || len(s.Refs) > 0 || s.Audiences != nil {
			rules.Environments = append(rules.Environments, sallyport.PlanEnvironmentRule{Name: s.Name, EntryRules: s.EntryRules, Audiences: s.Audiences})
		}
	}
	return rules, nil
}

// environment evaluates the environment that a cell names; nil for none. Its URL comes from
// the runner, which has the steps.
func (f *frame) environment(j *sallyport.PlanJob, cell workflow.Cell) (*sallyport.JobEnvironment, error) {
	if j.Environment.IsZero() {
		return nil, nil
	}
	scope, err := f.cellScope(j, cell)
	if err != nil {
		return nil, err
	}
	name, quiet := j.Environment, sallyport.Tree{}
	if j.Environment.Kind == sallyport.TreeMap {
		name = entry(j.Environment, "name")
		quiet = entry(j.Environment, "deployment")
	}
	v, err := scope.Tree(name)
	if err != nil {
		return nil, err
	}
	if v.Tainted() {
		if err := f.steered("environment", name.Pos); err != nil {
			return nil, err
		}
	}
	deployment := true
	if !quiet.IsZero() {
		d, err := scope.Tree(quiet)
		if err != nil {
			return nil, err
		}
		deployment = d.Truthy()
	}
	env := &sallyport.JobEnvironment{Name: strings.TrimSpace(v.String()), Quiet: !deployment}
	switch {
	case env.Name == "":
		return nil, nil
	case len(env.Name) > maxEnvironmentName:
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "line %d, column %d: the environment's name is longer than %d bytes", name.Pos.Line, name.Pos.Col, maxEnvironmentName)
	}
	return env, nil
}

// steered refuses what a value would choose that whoever caused an untrusted run has
// written. What the file alone shows is refused when the plan is made.
func (f *frame) steered(what string, at sallyport.Pos) error {
	if f.s.run.Tier != sallyport.TierUntrusted {
		return nil
	}
	return sallyport.Errorf(sallyport.CodeDenied, "line %d, column %d: in a run that somebody outside caused, the %s must not be chosen by text that they wrote", at.Line, at.Col, what)
}

func entry(t sallyport.Tree, key string) sallyport.Tree {
	for _, p := range t.Pairs {
		if p.Key.Text == key {
			return p.Value
		}
	}
	return sallyport.Tree{}
}

// rule returns the rule of the environment that the job names; nil when it has none.
// Names of environments do not differ by case.
func (f *frame) rule(j *sallyport.Job) *sallyport.PlanEnvironmentRule {
	if j.Environment == nil {
		return nil
	}
	return ruleOf(f.s.plan, j.Environment.Name)
}

// refusal is the error of a job that may not enter its environment.
func (f *frame) refusal(j *sallyport.Job) error {
	if j.Environment != nil && f.s.plan.Rules != nil && f.s.plan.Rules.Broken != "" {
		return sallyport.Errorf(sallyport.CodeDenied, "no job may enter environment %s while its rules cannot be read: %s", j.Environment.Name, f.s.plan.Rules.Broken)
	}
	r := f.rule(j)
	if r == nil || len(r.Refs) == 0 {
		return nil
	}
	if f.s.belowItsRef() {
		return sallyport.Errorf(sallyport.CodeDenied, "a %s run may not enter environment %s: it has the code of %s and is trusted less, for somebody else caused it",
			f.s.run.Event, j.Environment.Name, f.s.run.Ref)
	}
	if allowedRef(r.Refs, f.s.run.Ref) {
		return nil
	}
	return sallyport.Errorf(sallyport.CodeDenied, "%s may not enter environment %s: %s on %s allows %s",
		f.s.run.Ref, j.Environment.Name, environment.File, f.s.p.DefaultBranch, strings.Join(r.Refs, ", "))
}

// belowItsRef tells a run that is trusted less than a push of its ref would be:
// what caused it was not. Nothing may take the ref's name for its word.
func (s *settlement) belowItsRef() bool {
	return s.run.Tier.Rank() < tierOf(s.p, s.run.Ref).Rank()
}

// allowedRef matches a ref against the patterns of an environment: names of
// branches, or full names such as refs/tags/v*. A star does not match a slash.
func allowedRef(patterns []string, ref string) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, p := range patterns {
		if !strings.HasPrefix(p, "refs/") {
			p = "refs/heads/" + p
		}
		if ok, err := path.Match(p, ref); ok && err == nil {
			return true
		}
	}
	return false
}

// environmentURL is what of a job's word for its environment's address may be shown as a link.
func environmentURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || len(s) > 2048 || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	return u.String()
}
