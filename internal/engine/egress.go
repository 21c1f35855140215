package engine

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/egress"
)

// What jobs may reach. The protected branch declares it, whatever branch a job
// comes from, and a plan keeps it: a change counts for what is planned after it was merged.

// egressRules reads what a commit declares. Rules that cannot be read let nothing through.
func (e *Engine) egressRules(ctx context.Context, p sallyport.ProjectID, commit string) (sallyport.EgressRules, error) {
	rules := sallyport.EgressRules{Level: e.egress, Commit: commit}
	if commit == "" {
		return rules, nil
	}
	src, err := e.repos.ReadFile(ctx, p, commit, egress.File, egress.MaxBytes)
	switch sallyport.ErrorCode(err) {
	case "":
	case sallyport.CodeNotFound:
		return rules, nil
	case sallyport.CodeInvalid: // as one that is too large
		return brokenEgress(commit, egress.File+": "+userText(err)), nil
	default:
		return rules, err
	}
	got, diags := egress.Parse(src)
	if len(diags) > 0 {
		rules = brokenEgress(commit, clip(diags[0].String(), 1000))
	} else {
		rules = got
		rules.Commit = commit
	}
	rules.File = sallyport.PlanFile{Path: egress.File, Digest: sallyport.DigestOf(src)}
	return rules, nil
}

func brokenEgress(commit, why string) sallyport.EgressRules {
	return sallyport.EgressRules{Level: sallyport.EgressNone, Commit: commit, Broken: why}
}

// brokenEgressRemark tells on a run's page why its jobs reach nothing.
func brokenEgressRemark(why string) sallyport.Diagnostic {
	return sallyport.Diagnostic{File: egress.File, Pos: sallyport.Pos{Line: 1, Col: 1}, Severity: "warning",
		Message: "the jobs of this run reach nothing outside their rooms, for the protected branch's rules cannot be read: " + why}
}

// planEgress is what a plan holds its jobs to.
func planEgress(p *sallyport.Plan) sallyport.EgressRules {
	if p.Rules == nil || p.Rules.Egress == nil {
		return sallyport.EgressRules{Level: sallyport.EgressNone}
	}
	return *p.Rules.Egress
}

// ofJob returns the rules and credentials that are a job's own. A job is known by the key
// that the run's own workflow has for it or for what calls it, whoever's workflow that is.
func ofJob(rules sallyport.EgressRules, j sallyport.Job) sallyport.EgressRules {
	key := topKey(j)
	all, lent := rules.Rules, rules.Credentials
	rules.Rules, rules.Credentials = nil, nil
	for _, r := range all {
		if len(r.Jobs) == 0 || slices.Contains(r.Jobs, key) {
			r.Jobs = nil
			rules.Rules = append(rules.Rules, r)
		}
	}
	for _, c := range lent {
		if len(c.Jobs) == 0 || slices.Contains(c.Jobs, key) {
			c.Jobs = nil
			rules.Credentials = append(rules.Credentials, c)
		}
	}
	return rules
}

func topKey(j sallyport.Job) string {
	key, _, _ := strings.Cut(j.Key, "/")
	return key
}

// egress is what a job is held to: its rules, and the credentials that are lent to it.
func (f *frame) egress(j *sallyport.Job) sallyport.EgressRules {
	rules := ofJob(planEgress(f.s.plan), *j)
	env, guarded := "", false
	if j.Environment != nil {
		env = j.Environment.Name
		r := f.rule(j)
		guarded = r != nil && len(r.Refs) > 0 && !f.s.belowItsRef()
	}
	tier := f.s.run.Tier
	if f.s.e.ownEgress { // who runs a work tree by hand lends what is their own
		tier = sallyport.TierProtected
	}
	rules.Credentials = slices.DeleteFunc(rules.Credentials, func(c sallyport.CredentialRule) bool {
		return !egress.Lendable(c, topKey(*j), env, guarded, tier)
	})
	return rules
}

// exchange takes the values that credential rules name out of a job's secrets: those of
// credentials that are lent to it are for its door, and it gets placeholders; the others it does not get.
func exchange(secrets map[string]string, all, lent []sallyport.CredentialRule) []sallyport.LentSecret {
	var out []sallyport.LentSecret
	for _, c := range all {
		value, there := secrets[c.Secret]
		names := func(l sallyport.CredentialRule) bool { return l.Secret == c.Secret }
		if !there || slices.ContainsFunc(out, func(o sallyport.LentSecret) bool { return o.Secret == c.Secret }) {
			continue
		}
		if !slices.ContainsFunc(lent, names) {
			delete(secrets, c.Secret)
			continue
		}
		l := sallyport.LentSecret{Secret: c.Secret, Value: value, Placeholder: "lent-" + strings.ToLower(rand.Text())}
		out = append(out, l)
		if !slices.ContainsFunc(lent, func(l sallyport.CredentialRule) bool { return names(l) && l.Expose }) {
			secrets[c.Secret] = l.Placeholder
		}
	}
	return out
}

// holds reports whether some secret has the value or the placeholder of a lent one in it.
func holds(secrets map[string]string, l sallyport.LentSecret) bool {
	for _, v := range secrets {
		if strings.Contains(v, l.Placeholder) || v == l.Value {
			return true
		}
	}
	return false
}

// lentDetail is what the trail says of the credentials of a leased job.
func lentDetail(detail map[string]any, lent []sallyport.CredentialRule) {
	var names, exposed []string
	for _, c := range lent {
		names = append(names, c.Name)
		if c.Expose {
			exposed = append(exposed, c.Name)
		}
	}
	if len(names) > 0 {
		detail["credentials"] = names
	}
	if len(exposed) > 0 {
		detail["exposed"] = exposed
	}
}

// reachesOut reports whether a job held to the rules can have had an effect outside its
// room. What the firewall fetches from registries is read only.
func reachesOut(r sallyport.EgressRules) bool {
	return r.Broken == "" && r.Level != sallyport.EgressNone && (r.Observe || len(r.Rules) > 0 || len(r.Credentials) > 0)
}

// egressChange is the trail's record of a push that changes what jobs may reach.
type egressChange struct {
	Before, After sallyport.EgressRules
}

// egressChanged looks whether a push to the protected branch changes the rules; nil when not.
func (e *Engine) egressChanged(ctx context.Context, push sallyport.Push) (*egressChange, error) {
	p, err := e.project(ctx, push.Project)
	if err != nil {
		return nil, err
	}
	if push.Event != "push" || push.Ref != p.DefaultRef() {
		return nil, nil
	}
	var ch egressChange
	if ch.After, err = e.egressRules(ctx, p.ID, push.Commit); err != nil {
		return nil, err
	}
	if push.Before != "" {
		if ch.Before, err = e.egressRules(ctx, p.ID, push.Before); err != nil { // a forced push may have dropped it
			ch.Before = sallyport.EgressRules{}
		}
	}
	if ch.After.File == ch.Before.File && ch.After.Broken == ch.Before.Broken {
		return nil, nil
	}
	return &ch, nil
}

func (c *change) recordEgress(p sallyport.ProjectID, ch *egressChange) error {
	if ch == nil {
		return nil
	}
	r := ch.After
	return c.record("egress.changed", "project/"+string(p), map[string]any{
		"commit": r.Commit, "before": ch.Before.File.Digest, "file": r.File.Digest, "level": r.Level, "observe": r.Observe,
		"rules": len(r.Rules), "credentials": len(r.Credentials), "packages": len(r.Packages.Allow), "broken": r.Broken != "",
	})
}
