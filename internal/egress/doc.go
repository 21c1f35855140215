// Package egress reads .sallyport/egress.yaml: what jobs of a project may reach
// out of their rooms, and which credentials are lent to them at the door. It is
// pure: bytes in, rules or positioned diagnostics out; a Matcher says what rules
// mean for one job; Learn says which rules recorded flows would need. The engine
// calls it with the file as it stands on the protected branch, the runner and
// its door ask the Matcher.
//
//	network: listed               # none, listed, registries
//	observe: false                # true: let through what no rule allows, and mark the evidence
//	allow:
//	  - host: api.example.com     # port 443, all that is asked
//	  - host: "*.cdn.example.com" # the names below cdn.example.com
//	    ports: [443, 8443]
//	  - host: api.github.com      # methods or paths: the door reads the requests
//	    methods: [GET, HEAD]
//	    paths: [/repos/acme/]     # what is below; without the last slash: it, and what is below
//	    jobs: [release]           # keys of the workflow's jobs
//	credentials:                  # each opens the door for its own use, and for nothing else of its host
//	  - name: upload
//	    secret: UPLOAD_TOKEN
//	    kind: bearer              # bearer, basic, header, registry, aws, postgres
//	    host: packages.example.com
//	    methods: [PUT]            # default: GET and HEAD
//	    paths: [/acme/]
//	    environments: [production]
//	packages:
//	  min_age: 72h                # how old a version must be
//	  allow:
//	    - purl: pkg:npm/%40acme/*
//	      reason: our own packages
//	      until: 2027-06-30
package egress

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport"
)

// File is where the rules stand in a repository.
const File = ".sallyport/egress.yaml"

// Bounds of the file, which people read and review.
const (
	MaxBytes       = 128 << 10
	maxRules       = 500
	maxCredentials = 100
	maxAllows      = 500 // packages
	maxPorts       = 20
	maxWords       = 50 // methods, paths, jobs or environments of one rule
	maxText        = 1024
	maxDepth       = 8
	maxDiagnostics = 50
)

// Parse reads the file. With any diagnostic of severity error the rules must not
// be used. File and Commit of the rules are the caller's to fill in.
func Parse(src []byte) (sallyport.EgressRules, []sallyport.Diagnostic) {
	r := new(reader)
	root := r.load(src)
	if root == nil {
		return sallyport.EgressRules{}, r.diags
	}
	var rules sallyport.EgressRules
	var network, allow, credentials *yaml.Node
	r.fields(root, "the file", fields{
		"network":     func(n *yaml.Node) { network, rules.Level = n, r.level(n) },
		"observe":     func(n *yaml.Node) { rules.Observe = r.boolean(n) },
		"allow":       func(n *yaml.Node) { allow, rules.Rules = n, r.rules(n) },
		"credentials": func(n *yaml.Node) { credentials, rules.Credentials = n, r.credentials(n) },
		"packages":    func(n *yaml.Node) { rules.Packages = r.packages(n) },
	})
	if network == nil && len(r.diags) == 0 {
		r.fail(root, "network: is missing; write network: none, listed or registries")
	}
	if rules.Level == sallyport.EgressNone {
		for _, n := range []*yaml.Node{allow, credentials} {
			if n != nil && len(n.Content) > 0 {
				r.fail(n, "nothing of this can be reached with network: none; write network: listed, or take it out")
			}
		}
	}
	if len(r.diags) == 0 { // else what is compared is not what was meant
		r.overlaps(rules)
	}
	return rules, r.diags
}

// Rule is how records name a rule: FILE:LINE.
func Rule(p sallyport.Pos) string { return fmt.Sprintf("%s:%d", File, p.Line) }

func (r *reader) level(n *yaml.Node) sallyport.EgressLevel {
	switch l := sallyport.EgressLevel(n.Value); l {
	case sallyport.EgressNone, sallyport.EgressListed, sallyport.EgressRegistries:
		return l
	}
	r.fail(n, "network: %s is not a level; write none, listed or registries", quote(n))
	return ""
}

func (r *reader) rules(n *yaml.Node) []sallyport.EgressRule {
	var out []sallyport.EgressRule
	for _, item := range r.list(n, "allow", maxRules) {
		rule := sallyport.EgressRule{Pos: place(item)}
		ok := r.fields(item, "a rule", fields{
			"host":    func(n *yaml.Node) { rule.Host = r.host(n, true) },
			"ports":   func(n *yaml.Node) { rule.Ports = r.ports(n) },
			"methods": func(n *yaml.Node) { rule.Methods = r.methods(n) },
			"paths":   func(n *yaml.Node) { rule.Paths = r.paths(n) },
			"jobs":    func(n *yaml.Node) { rule.Jobs = r.jobs(n) },
		}, "host")
		if ok {
			out = append(out, rule)
		}
	}
	return out
}
