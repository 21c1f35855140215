package rights

import (
	"maps"
	"slices"

	"github.com/cedar-policy/cedar-go"
	publicast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// heads notes what the policy's head names; the zero UID is anything, or any of a type.
func (r *rule) heads() {
	switch p := r.tree.Principal.(type) {
	case ast.ScopeTypeEq:
		r.principal = p.Entity
	case ast.ScopeTypeIn:
		r.principal = p.Entity
	case ast.ScopeTypeIsIn:
		r.principal = p.Entity
	}
	switch t := r.tree.Resource.(type) {
	case ast.ScopeTypeEq:
		r.resource = t.Entity
	case ast.ScopeTypeIn:
		r.resource = t.Entity
	case ast.ScopeTypeIsIn:
		r.resource = t.Entity
	}
}

// lint says in what a permit is wider than one may be: it must name one
// principal or one team, its actions, and one resource. Forbids may be broad.
func lint(r *rule) (wrong []string) {
	if r.tree.Effect == ast.EffectForbid {
		return nil
	}
	if r.principal == (UID{}) {
		wrong = append(wrong, `a permit names its principal: write principal == Person::"…" or principal in Team::"…"`)
	}
	switch a := r.tree.Action.(type) {
	case ast.ScopeTypeEq:
	case ast.ScopeTypeInSet:
		if len(a.Entities) == 0 {
			wrong = append(wrong, "a permit names its actions: the list is empty")
		}
	default:
		wrong = append(wrong, `a permit names its actions: write action == Action::"…" or action in [Action::"…", …]`)
	}
	if r.resource == (UID{}) {
		wrong = append(wrong, `a permit names its resource: write resource == Environment::"…" or resource in Project::"…"`)
	}
	return wrong
}

// fits reports whether the head may match a request about an entity that is in
// the others.
func fits(head, u UID, in []UID) bool {
	return head == UID{} || head == u || slices.Contains(in, head)
}

// names reports whether the policy's head names the action; a forbid's may name all.
func (r *rule) names(action UID) bool {
	switch a := r.tree.Action.(type) {
	case ast.ScopeTypeAll:
		return true
	case ast.ScopeTypeEq:
		return a.Entity == action
	case ast.ScopeTypeIn:
		return a.Entity == action
	case ast.ScopeTypeInSet:
		for _, e := range a.Entities {
			if e == action {
				return true
			}
		}
	}
	return false
}

// surely returns the set that permits at most what this one permits in every
// context. Permits that ask about the context are left out, or forbid when they may
// fail; forbids lose the conditions that ask about it, so that they hold whenever the others do.
func (s *Set) surely() *Set {
	out := &Set{permits: map[UID][]*rule{}, byThing: map[UID][]*rule{}, requests: s.requests, digest: s.digest}
	for _, r := range s.all {
		var rest []ast.ConditionType
		for _, c := range r.tree.Conditions {
			if !asksContext(c.Body) {
				rest = append(rest, c)
			}
		}
		if len(rest) < len(r.tree.Conditions) {
			tree := *r.tree
			tree.Conditions = rest
			if tree.Effect == ast.EffectPermit {
				if !mayFail(r.tree) {
					continue
				}
				tree.Effect, tree.Conditions = ast.EffectForbid, nil
			} else if mayFail(r.tree) {
				tree.Conditions = nil
			}
			r = &rule{id: r.id, policy: policyOf(&tree), tree: &tree, principal: r.principal, resource: r.resource, named: r.named}
		}
		out.put(r)
	}
	return out
}

func asksContext(n ast.IsNode) bool {
	found := false
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		if v, ok := n.(ast.NodeTypeVariable); ok && v.Name == "context" {
			found = true
		}
		return !found
	})
	return found
}

func policyOf(p *ast.Policy) *cedar.Policy {
	return cedar.NewPolicyFromAST((*publicast.Policy)(p))
}

// mayFail reports whether the policy, though valid, can fail when it is evaluated:
// arithmetic overflows, and so do times.
func mayFail(p *ast.Policy) bool {
	failing := false
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			switch n := n.(type) {
			case ast.NodeTypeAdd, ast.NodeTypeSub, ast.NodeTypeMult, ast.NodeTypeNegate:
				failing = true
			case ast.NodeTypeExtensionCall:
				switch n.Name {
				case "datetime", "duration", "decimal", "ip", "toTime", "isIpv4", "isIpv6", "isLoopback", "isMulticast", "isInRange",
					"lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual":
				default:
					failing = true
				}
			}
			return !failing
		})
	}
	return failing
}

// named returns the entities that a policy names, in its head or below.
func named(p *ast.Policy) []UID {
	var out []UID
	for _, head := range []any{p.Principal, p.Resource} {
		switch h := head.(type) {
		case ast.ScopeTypeEq:
			out = append(out, h.Entity)
		case ast.ScopeTypeIn:
			out = append(out, h.Entity)
		case ast.ScopeTypeIsIn:
			out = append(out, h.Entity)
		}
	}
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			if v, ok := n.(ast.NodeValue); ok {
				found := map[UID]bool{}
				refer(v.Value, found)
				out = slices.AppendSeq(out, maps.Keys(found))
			}
			return true
		})
	}
	return out
}
