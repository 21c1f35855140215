// Package environment reads .sallyport/deploy.yaml: the environments to which a
// project's releases go. It is pure: bytes in, specifications or positioned
// diagnostics out. The engine calls it with the file as it stands on the
// protected branch.
//
//	environments:
//	  production:
//	    artifact: hello                      # name of the artifact to deploy
//	    workflow: .github/workflows/ci.yml   # that must have built it
//	    port: 8080                           # where it listens, also in $PORT
//	    command: [./hello, --verbose]        # default: the artifact's one file
//	    env: {LOG_LEVEL: info}
//	    listen: 127.0.0.1:8443               # default: a free loopback port, kept
//	    drain: 10s
//	    health: {path: /healthz, interval: 250ms, healthy: 3, startup: 30s, watch: 10s, max_errors: 3}
//	    approval: required                   # default: none; reviewers and approvals say it too
//	    reviewers: [person/anna, team/ops]   # default: all whom policies let approve
//	    approvals: 2                         # how many distinct people; default 1
//	    wait-timer: 10m                      # after it was ready; default: none
//	    hours: [mon-fri 09:00-17:00 Europe/Vienna]  # in which anything enters; default: always
//	    source: unchanged                    # no build may edit tracked files; default: it may
//	    refs: [main, release/*, refs/tags/v*]  # whose jobs may name it; default: all
//	    audiences: [sts.amazonaws.com]       # for which its jobs may have ID tokens; default: those of the project
//	audiences: [sts.amazonaws.com, {name: vault, algorithm: ES256}]  # of all other jobs; default: sallyport.WellKnownAudiences
//
// An environment with nothing but rules of who may enter, and when, is for jobs alone: no release goes there.
package environment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport"
)

// File is where the declarations stand in a repository.
const File = ".sallyport/deploy.yaml"

// Bounds of the file.
const (
	MaxBytes        = 64 << 10 // read by people
	maxEnvironments = 50
	maxCommand      = 64
	maxEnv          = 200
	maxText         = 4096
	maxDepth        = 8
	maxRefs         = 50
	maxReviewers    = 50
	maxApprovals    = 20
	maxHours        = 20
	maxAudiences    = 50
	maxWait         = 30 * 24 * time.Hour // GitHub's bound
)

type document struct {
	Environments yaml.Node `yaml:"environments"`
	Audiences    yaml.Node `yaml:"audiences"`
}

type declared struct {
	Artifact string    `yaml:"artifact"`
	Workflow string    `yaml:"workflow"`
	Port     int       `yaml:"port"`
	Command  []string  `yaml:"command"`
	Env      yaml.Node `yaml:"env"`
	Listen   string    `yaml:"listen"`
	Drain    duration  `yaml:"drain"`
	Health   health    `yaml:"health"`
	Approval string    `yaml:"approval"`
	Refs     []string  `yaml:"refs"`

	Reviewers []string `yaml:"reviewers"`
	Approvals *int     `yaml:"approvals"`
	Wait      duration `yaml:"wait-timer"`
	Hours     []string `yaml:"hours"`

	Source string `yaml:"source"`

	Audiences yaml.Node `yaml:"audiences"`
}

type health struct {
	Path      string   `yaml:"path"`
	Interval  duration `yaml:"interval"`
	Healthy   int      `yaml:"healthy"`
	Startup   duration `yaml:"startup"`
	Watch     duration `yaml:"watch"`
	MaxErrors int      `yaml:"max_errors"`
}

type duration time.Duration

func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil || v < 0 {
		return &place{n, fmt.Sprintf("%.40q is not a duration; write for example 500ms, 10s or 2m", n.Value)}
	}
	*d = duration(v)
	return nil
}

// place is an error at a node.
type place struct {
	node *yaml.Node
	text string
}

func (p *place) Error() string { return fmt.Sprintf("line %d: %s", p.node.Line, p.text) }

// Declared is what the file says.
type Declared struct {
	Environments []sallyport.EnvironmentSpec
	// Audiences are those of jobs in an environment that has none of its own, or in none.
	Audiences sallyport.Audiences
}

// Parse reads the file's environments. With any diagnostic of severity error they must
// not be used.
func Parse(src []byte) ([]sallyport.EnvironmentSpec, []sallyport.Diagnostic) {
	d, diags := Read(src)
	return d.Environments, diags
}

// Read reads the file. With any diagnostic of severity error what it declares must not
// be used.
func Read(src []byte) (Declared, []sallyport.Diagnostic) {
	if len(src) > MaxBytes {
		return Declared{}, diagnose(&place{&yaml.Node{Line: 1, Column: 1}, fmt.Sprintf("the file is larger than %d bytes", MaxBytes)})
	}
	root, err := load(src)
	if err != nil {
		return Declared{}, diagnose(err)
	}
	var doc document
	if err := decode(root, &doc); err != nil {
		return Declared{}, diagnose(err)
	}
	var out Declared
	if out.Audiences, err = audiences(&doc.Audiences); err != nil {
		return Declared{}, diagnose(err)
	}
	if doc.Environments.Kind == 0 && out.Audiences != nil {
		return out, nil
	}
	if doc.Environments.Kind != yaml.MappingNode {
		return Declared{}, diagnose(&place{at(&doc.Environments, root), "environments: a map of environment names is needed"})
	}
	var diags []sallyport.Diagnostic
	seen := make(map[string]bool)
	pairs := doc.Environments.Content
	if len(pairs)/2 > maxEnvironments {
		return Declared{}, diagnose(&place{&doc.Environments, fmt.Sprintf("more than %d environments", maxEnvironments)})
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		spec, err := parseOne(pairs[i], pairs[i+1], seen)
		if err != nil {
			diags = append(diags, diagnose(err)...)
			continue
		}
		out.Environments = append(out.Environments, spec)
	}
	return out, diags
}

func at(n, fallback *yaml.Node) *yaml.Node {
	if n.Line > 0 {
		return n
	}
	return fallback
}

func load(src []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var root, more yaml.Node
	if err := dec.Decode(&root); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &place{&yaml.Node{Line: 1, Column: 1}, "the file is empty; declare environments:"}
		}
		return nil, err
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, &place{at(&more, &yaml.Node{Line: 1, Column: 1}), "one document is allowed"}
	}
	if err := plain(&root, 0); err != nil {
		return nil, err
	}
	return root.Content[0], nil
}

// plain refuses aliases and depth: this file needs neither.
func plain(n *yaml.Node, depth int) error {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return &place{n, "anchors and aliases are not allowed here; write the value out"}
	}
	if depth > maxDepth {
		return &place{n, "nested too deeply"}
	}
	for _, c := range n.Content {
		if err := plain(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// decode is strict: an unknown or repeated key is an error with its line.
func decode(n *yaml.Node, into any) error {
	if n.Kind != yaml.MappingNode {
		return &place{n, "a map is needed"}
	}
	b, err := yaml.Marshal(n)
	if err != nil {
		return &place{n, "cannot be read"}
	}
	strict := yaml.NewDecoder(bytes.NewReader(b))
	strict.KnownFields(true)
	if err := strict.Decode(into); err != nil {
		var te *yaml.TypeError
		if errors.As(err, &te) && len(te.Errors) > 0 {
			return relocate(n, te.Errors[0])
		}
	}
	return n.Decode(into)
}

var unknownField = regexp.MustCompile(`field (\S+) not found`)

// relocate finds the node that a strict decoding of its re-encoded map complained about.
func relocate(n *yaml.Node, text string) error {
	if m := unknownField.FindStringSubmatch(text); m != nil {
		if k := key(n, m[1]); k != nil {
			return &place{k, fmt.Sprintf("unknown key %q", m[1])}
		}
		return &place{n, fmt.Sprintf("unknown key %q", m[1])}
	}
	if _, rest, ok := strings.Cut(text, ": "); ok {
		text = rest
	}
	return &place{n, text}
}

func key(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Kind == yaml.MappingNode && n.Content[i].Value == name {
			return n.Content[i]
		}
		if k := key(n.Content[i+1], name); k != nil {
			return k
		}
	}
	return nil
}

func parseOne(nameNode, body *yaml.Node, seen map[string]bool) (sallyport.EnvironmentSpec, error) {
	name := nameNode.Value
	if err := sallyport.ValidName("environment", name); err != nil {
		return sallyport.EnvironmentSpec{}, &place{nameNode, err.Error()}
	}
	if seen[name] {
		return sallyport.EnvironmentSpec{}, &place{nameNode, fmt.Sprintf("environment %q stands twice", name)}
	}
	seen[name] = true
	d := declared{
		Drain: duration(10 * time.Second),
		Health: health{Path: "/", Interval: duration(250 * time.Millisecond), Healthy: 3, Startup: duration(30 * time.Second),
			Watch: duration(10 * time.Second), MaxErrors: 3},
	}
	if err := decode(body, &d); err != nil {
		return sallyport.EnvironmentSpec{}, err
	}
	env, err := variables(&d.Env)
	if err != nil {
		return sallyport.EnvironmentSpec{}, err
	}
	rules, why := d.rules()
	if why != "" {
		return sallyport.EnvironmentSpec{}, &place{nameNode, fmt.Sprintf("environment %s: %s", name, why)}
	}
	allowed, err := audiences(&d.Audiences)
	if err != nil {
		return sallyport.EnvironmentSpec{}, err
	}
	if rulesAlone(body) {
		return sallyport.EnvironmentSpec{Name: name, EntryRules: rules, Audiences: allowed}, nil
	}
	spec := sallyport.EnvironmentSpec{
		EntryRules: rules, Audiences: allowed, SealedSource: d.Source != "",
		Name: name, Artifact: d.Artifact, Workflow: d.Workflow, Command: d.Command, Env: env, Port: d.Port, Listen: d.Listen,
		Drain: time.Duration(d.Drain),
		Health: sallyport.HealthSpec{Path: d.Health.Path, Interval: time.Duration(d.Health.Interval), Healthy: d.Health.Healthy,
			Startup: time.Duration(d.Health.Startup), Watch: time.Duration(d.Health.Watch), MaxErrors: d.Health.MaxErrors},
	}
	if err := check(spec); err != "" {
		return spec, &place{nameNode, fmt.Sprintf("environment %s: %s", name, err)}
	}
	return spec, nil
}

// rulesAlone reports whether a declaration says only who may enter.
func rulesAlone(body *yaml.Node) bool {
	for i := 0; i+1 < len(body.Content); i += 2 {
		switch body.Content[i].Value {
		case "approval", "refs", "reviewers", "approvals", "wait-timer", "hours", "audiences":
		default:
			return false
		}
	}
	return len(body.Content) > 0
}

// rules returns who may enter and when, or what is wrong with it.
func (d declared) rules() (sallyport.EntryRules, string) {
	r := sallyport.EntryRules{Refs: d.Refs, Wait: time.Duration(d.Wait)}
	if why := checkRules(d); why != "" {
		return r, why
	}
	r.Approval = d.Approval != "" || d.Approvals != nil || len(d.Reviewers) > 0
	if d.Approvals != nil {
		r.Needed = *d.Approvals
	}
	teams := false
	for _, who := range d.Reviewers {
		kind, name, _ := strings.Cut(who, "/")
		if err := sallyport.ValidName(kind, name); err != nil || kind != "person" && kind != "team" {
			return r, fmt.Sprintf("reviewers: %.80q is nobody; write person/NAME or team/NAME", who)
		}
		if slices.Contains(r.Reviewers, who) {
			return r, fmt.Sprintf("reviewers: %s stands twice", who)
		}
		teams = teams || kind == "team"
		r.Reviewers = append(r.Reviewers, who)
	}
	if len(r.Reviewers) > 0 && !teams && r.Needed > len(r.Reviewers) {
		return r, fmt.Sprintf("approvals: %d people can never be had from %d reviewers", r.Needed, len(r.Reviewers))
	}
	for _, text := range d.Hours {
		w, err := sallyport.ParseWindow(text)
		if err != nil {
			return r, "hours: " + err.Error() + "; write for example mon-fri 09:00-17:00 Europe/Vienna"
		}
		r.Hours = append(r.Hours, w)
	}
	return r, ""
}

func checkRules(d declared) string {
	if d.Approval != "" && d.Approval != "required" {
		return "approval: required is the one value; leave the key out for none"
	}
	switch {
	case d.Approvals != nil && (*d.Approvals < 1 || *d.Approvals > maxApprovals):
		return fmt.Sprintf("approvals: from 1 to %d people; leave the key out for none", maxApprovals)
	case len(d.Reviewers) > maxReviewers:
		return fmt.Sprintf("reviewers: more than %d", maxReviewers)
	case len(d.Hours) > maxHours:
		return fmt.Sprintf("hours: more than %d windows", maxHours)
	case time.Duration(d.Wait) > maxWait:
		return "wait-timer: at most 720h"
	}
	if d.Source != "" && d.Source != "unchanged" {
		return "source: unchanged is the one value; leave the key out where builds may edit tracked files"
	}
	if len(d.Refs) > maxRefs {
		return fmt.Sprintf("refs: more than %d patterns", maxRefs)
	}
	for _, r := range d.Refs {
		if _, err := path.Match(r, ""); err != nil || r == "" || len(r) > maxText {
			return fmt.Sprintf("refs: %.80q is not a pattern such as main, release/* or refs/tags/v*", r)
		}
	}
	return ""
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

func variables(n *yaml.Node) ([]sallyport.EnvVar, error) {
	if n.Kind == 0 {
		return nil, nil
	}
	if n.Kind != yaml.MappingNode || len(n.Content)/2 > maxEnv {
		return nil, &place{n, fmt.Sprintf("env: a map of at most %d variables is needed", maxEnv)}
	}
	var vars []sallyport.EnvVar
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case !envName.MatchString(k.Value):
			return nil, &place{k, fmt.Sprintf("%.80q is not a variable's name", k.Value)}
		case k.Value == "PORT":
			return nil, &place{k, "PORT is set from port:"}
		case v.Kind != yaml.ScalarNode || len(v.Value) > maxText || strings.ContainsRune(v.Value, 0):
			return nil, &place{v, fmt.Sprintf("the value of %s must be text of at most %d bytes", k.Value, maxText)}
		}
		vars = append(vars, sallyport.EnvVar{Name: k.Value, Value: v.Value})
	}
	return vars, nil
}

// check says what is wrong with a specification, "" for nothing.
func check(s sallyport.EnvironmentSpec) string {
	h := s.Health
	switch {
	case s.Artifact == "" || len(s.Artifact) > 256:
		return "artifact: the name of the artifact to deploy is needed"
	case !strings.HasPrefix(s.Workflow, ".github/workflows/") || path.Clean(s.Workflow) != s.Workflow:
		return "workflow: the path of the workflow that builds it is needed, as .github/workflows/ci.yml"
	case s.Port < 1 || s.Port > 65535:
		return "port: the port on which the service listens is needed, from 1 to 65535"
	case len(s.Command) > maxCommand:
		return fmt.Sprintf("command: more than %d words", maxCommand)
	case !strings.HasPrefix(h.Path, "/") || len(h.Path) > 1024 || strings.ContainsAny(h.Path, " \r\n"):
		return "health.path must begin with / and have no spaces"
	case h.Interval < 50*time.Millisecond || h.Interval > time.Minute:
		return "health.interval must be from 50ms to 1m"
	case h.Healthy < 1 || h.Healthy > 100:
		return "health.healthy must be from 1 to 100"
	case h.Startup < time.Second || h.Startup > 15*time.Minute:
		return "health.startup must be from 1s to 15m"
	case h.Watch < 0 || h.Watch > 24*time.Hour:
		return "health.watch must be at most 24h"
	case h.MaxErrors < 1 || h.MaxErrors > 1000:
		return "health.max_errors must be from 1 to 1000"
	case s.Drain > 10*time.Minute:
		return "drain must be at most 10m"
	}
	for _, w := range s.Command {
		if w == "" || len(w) > maxText || strings.ContainsRune(w, 0) {
			return "command: every word must be text of 1 to " + strconv.Itoa(maxText) + " bytes"
		}
	}
	if s.Listen != "" {
		a, err := netip.ParseAddrPort(s.Listen)
		if err != nil || !a.Addr().IsLoopback() {
			return "listen must be a loopback address with a port, as 127.0.0.1:8080; put a TLS terminator in front of it"
		}
	}
	return ""
}

func diagnose(err error) []sallyport.Diagnostic {
	d := sallyport.Diagnostic{File: File, Severity: "error", Pos: sallyport.Pos{Line: 1, Col: 1}, Message: err.Error()}
	var p *place
	if errors.As(err, &p) {
		d.Pos, d.Message = sallyport.Pos{Line: p.node.Line, Col: p.node.Column}, p.text
	} else if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		d.Pos.Line, _ = strconv.Atoi(m[1])
		d.Message = m[2]
	}
	return []sallyport.Diagnostic{d}
}

var yamlLine = regexp.MustCompile(`(?s)line (\d+): (.*)`)
