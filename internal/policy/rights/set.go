package rights

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"github.com/sallyport-ci/sallyport"
)

//go:embed schema.cedarschema
var schemaText []byte

//go:embed builtin.cedar
var builtinText []byte

// EngineVersion stands in each decision: with the digests of policies and
// entities it says what would decide the same again.
const EngineVersion = "cedar-go v1.9.0"

// Bounds of policies.
const (
	MaxSource   = 256 << 10 // of one file: read by people
	maxPolicies = 50_000    // of one set; a grant is one
	maxDepth    = 64        // of brackets; the parser and the evaluator recurse
	maxOneDepth = 2_000     // operators of one policy: they make a tree as deep
	maxFindings = 50        // that are told
)

const builtinLayer = "builtin"

// ownIDs are how the ids of policies begin that no file may give: of the built-in
// ones, and of grants to their makers.
var ownIDs = []string{"builtin/", "grant/", "work/", "jit/", "stop/"}

// Layer is a part of a policy set: a file, or grants.
type Layer struct {
	Name   string // of the file, for places; also before the ids of its policies
	Source []byte
	Grants []Grant
	Bans   []Ban
}

// Ban forbids everything to one principal, or some actions to anybody on one resource and
// what is in it.
type Ban struct {
	ID        string // of the policy
	Principal UID
	Actions   []string
	Resource  UID
}

// Grant is an exact permit that Sallyport writes itself, for one principal.
type Grant struct {
	ID        string // of the policy
	Principal UID
	Actions   []string
	Resource  UID // and what is in it
	// Only makes it good for requests that come with this just-in-time grant, from one
	// moment to another.
	Only        string
	From, Until time.Time
}

// Policy is a policy of a set, as it is written.
type Policy struct {
	ID     string `json:"id"`
	Effect string `json:"effect"` // permit or forbid
	Text   string `json:"text"`
}

// Set is a policy set that passed the schema's strict validation and the lint.
// It does not change, and may be used by many at once.
type Set struct {
	digest   sallyport.Digest
	all      []*rule         // in order
	forbids  []*rule         // always asked
	permits  map[UID][]*rule // by the principal or team that they name
	byThing  map[UID][]*rule // permits by the resource that they name
	sure     *Set            // what holds in every context; see surely
	requests map[string]requestTypes
}

// rule is one policy, with what its head names.
type rule struct {
	id        cedar.PolicyID
	policy    *cedar.Policy
	tree      *ast.Policy
	principal UID // or what it is in; the zero UID in a forbid about any
	resource  UID // likewise
	named     []UID
}

// Finding says what is wrong with a policy.
type Finding struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Policy string `json:"policy,omitempty"`
	Text   string `json:"text"`
}

func (f Finding) String() string {
	place := f.File
	if f.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
	}
	if f.Policy != "" {
		return fmt.Sprintf("%s: policy %s: %s", place, f.Policy, f.Text)
	}
	return place + ": " + f.Text
}

// Findings is why a set was refused; in order of places.
type Findings []Finding

func (f Findings) Error() string {
	lines := make([]string, len(f))
	for i, one := range f {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// Compile makes a set of the built-in policies and the layers. It returns
// Findings when a policy does not parse, fits no request of the schema or is
// wider than a permit may be.
func Compile(layers ...Layer) (*Set, error) {
	types, validator, err := theSchema()
	if err != nil {
		return nil, err
	}
	s := &Set{permits: map[UID][]*rule{}, byThing: map[UID][]*rule{}, requests: requestsOf(types)}
	var found Findings
	text := sha256.New()
	seen := map[cedar.PolicyID]bool{}
	for _, l := range append([]Layer{{Name: builtinLayer, Source: builtinText}}, layers...) {
		list, wrong := l.policies()
		found = append(found, wrong...)
		for i, p := range list {
			r := &rule{policy: p, tree: (*ast.Policy)(p.AST())}
			r.id = l.policyID(p, i)
			r.heads()
			place := Finding{File: l.Name, Line: r.tree.Position.Line, Column: r.tree.Position.Column, Policy: string(r.id)}
			wrong := check(r, validator, place)
			if l.Name != builtinLayer && i >= len(l.Grants)+len(l.Bans) && slices.ContainsFunc(ownIDs, func(p string) bool { return strings.HasPrefix(string(r.id), p) }) {
				place.Text = "an @id that begins so is given by Sallyport alone"
				wrong = append(wrong, place)
			}
			if seen[r.id] {
				place.Text = "another policy has this @id"
				wrong = append(wrong, place)
			}
			seen[r.id] = true
			found = append(found, wrong...)
			r.named = named(r.tree)
			s.put(r)
			fmt.Fprintf(text, "// %s\n%s\n", r.id, p.MarshalCedar())
		}
		if len(s.all) > maxPolicies {
			return nil, Findings{{File: l.Name, Text: fmt.Sprintf("more than %d policies", maxPolicies)}}
		}
	}
	if len(found) > 0 {
		return nil, found[:min(len(found), maxFindings)]
	}
	s.digest = sallyport.Digest("sha256:" + hex.EncodeToString(text.Sum(nil)))
	s.sure = s.surely()
	return s, nil
}

// policies parses a layer. The parser is foreign and reads what people wrote: what
// makes it panic is refused like what it refuses.
func (l Layer) policies() (list cedar.PolicyList, wrong Findings) {
	for _, g := range l.Grants {
		list = append(list, g.policy())
	}
	for _, b := range l.Bans {
		list = append(list, b.policy())
	}
	if len(l.Source) > MaxSource {
		return nil, Findings{{File: l.Name, Text: fmt.Sprintf("larger than %d bytes", MaxSource)}}
	}
	if place := tooDeep(l.Source); place > 0 {
		return nil, Findings{{File: l.Name, Line: place, Column: 1, Text: fmt.Sprintf("nested deeper than %d brackets", maxDepth)}}
	}
	defer func() {
		if recover() != nil {
			list, wrong = nil, Findings{{File: l.Name, Text: "the policies cannot be read"}}
		}
	}()
	parsed, err := cedar.NewPolicyListFromBytes(l.Name, l.Source)
	if err != nil {
		return nil, Findings{{File: l.Name, Text: parseError(err)}}
	}
	return append(list, parsed...), nil
}

func parseError(err error) string {
	text := strings.TrimPrefix(err.Error(), "parser error: ")
	return strings.TrimPrefix(text, "parse error at ")
}

// tooDeep returns the line at which brackets nest too deep, 0 when none does.
func tooDeep(source []byte) int {
	line, depth, quoted := 1, 0, false
	for i := 0; i < len(source); i++ {
		switch c := source[i]; {
		case c == '\n':
			line++
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '/' && i+1 < len(source) && source[i+1] == '/':
			for i+1 < len(source) && source[i+1] != '\n' {
				i++
			}
		case c == '(' || c == '[' || c == '{':
			if depth++; depth > maxDepth {
				return line
			}
		case c == ')' || c == ']' || c == '}':
			depth--
		}
	}
	return 0
}

func (l Layer) policyID(p *cedar.Policy, i int) cedar.PolicyID {
	if id, ok := p.Annotations()["id"]; ok && id != "" {
		return cedar.PolicyID(id)
	}
	return cedar.PolicyID(fmt.Sprintf("%s#%d", l.Name, i+1))
}

// check validates and lints one policy.
func check(r *rule, validator *validate.Validator, place Finding) (found Findings) {
	defer func() {
		if recover() != nil {
			place.Text = "the policy cannot be checked"
			found = append(found, place)
		}
	}()
	if operators(r.tree) > maxOneDepth {
		place.Text = fmt.Sprintf("more than %d operators in one policy", maxOneDepth)
		return Findings{place}
	}
	for _, text := range lint(r) {
		place.Text = text
		found = append(found, place)
	}
	if err := validator.Policy(string(r.id), r.tree); err != nil {
		place.Text = validationError(err)
		found = append(found, place)
	}
	return found
}

func validationError(err error) string {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		var lines []string
		for _, e := range joined.Unwrap() {
			lines = append(lines, e.Error())
		}
		slices.Sort(lines)
		return strings.Join(slices.Compact(lines), "; ")
	}
	return err.Error()
}

func operators(p *ast.Policy) int {
	n := 0
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(ast.IsNode) bool { n++; return true })
	}
	return n
}

// put adds a policy where a request finds it.
func (s *Set) put(r *rule) {
	s.all = append(s.all, r)
	if r.tree.Effect == ast.EffectForbid {
		s.forbids = append(s.forbids, r)
		return
	}
	s.permits[r.principal] = append(s.permits[r.principal], r)
	s.byThing[r.resource] = append(s.byThing[r.resource], r)
}

// Digest names the set: of the canonical text of all its policies and their ids.
func (s *Set) Digest() sallyport.Digest { return s.digest }

// Policies returns the set in order, the built-in ones first.
func (s *Set) Policies() []Policy {
	out := make([]Policy, 0, len(s.all))
	for _, r := range s.all {
		effect := "permit"
		if r.tree.Effect == ast.EffectForbid {
			effect = "forbid"
		}
		out = append(out, Policy{ID: string(r.id), Effect: effect, Text: string(r.policy.MarshalCedar())})
	}
	return out
}

func (g Grant) policy() *cedar.Policy {
	actions := make([]UID, len(g.Actions))
	for i, a := range g.Actions {
		actions[i] = Action(a)
	}
	p := ast.Permit().PrincipalEq(g.Principal).ActionInSet(actions...).ResourceIn(g.Resource)
	if g.Only != "" {
		context := ast.Context()
		p = p.When(context.Has("grant").And(context.Access("grant").Equal(ast.String(types.String(g.Only)))).
			And(context.Access("at").GreaterThanOrEqual(moment(g.From))).
			And(context.Access("at").LessThan(moment(g.Until))))
	}
	p.Annotations = []ast.AnnotationType{{Key: "id", Value: cedar.String(g.ID)}}
	return policyOf(p)
}

// moment writes a time as a file would.
func moment(t time.Time) ast.Node {
	return ast.ExtensionCall("datetime", ast.String(types.String(t.UTC().Format("2006-01-02T15:04:05.000Z"))))
}

func (b Ban) policy() *cedar.Policy {
	p := ast.Forbid()
	if b.Principal != (UID{}) {
		p = p.PrincipalEq(b.Principal)
	} else {
		actions := make([]UID, len(b.Actions))
		for i, a := range b.Actions {
			actions[i] = Action(a)
		}
		p = p.ActionInSet(actions...).ResourceIn(b.Resource)
	}
	p.Annotations = []ast.AnnotationType{{Key: "id", Value: cedar.String(b.ID)}}
	return policyOf(p)
}

// theSchema reads the schema, which is a part of the program.
func theSchema() (*resolved.Schema, *validate.Validator, error) {
	var s schema.Schema
	s.SetFilename("schema.cedarschema")
	if err := s.UnmarshalCedar(schemaText); err != nil {
		return nil, nil, fmt.Errorf("access schema: %w", err)
	}
	types, err := s.Resolve()
	if err != nil {
		return nil, nil, fmt.Errorf("access schema: %w", err)
	}
	return types, validate.New(types, validate.WithStrict()), nil
}

// Schema returns the schema, as it is written.
func Schema() string { return string(schemaText) }
