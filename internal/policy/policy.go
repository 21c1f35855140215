// Package policy decides: evidence in, decision with reasons out.
//
// Gates are written in Rego and judge one evidence document about one digest.
// A gate is positive: it allows only what it can prove from the document, and
// a document that does not have the expected shape is never shown to it. The
// package does no I/O and reads no clock: the same policy and document give
// the same decision for ever, which is what makes a verdict replayable.
//
// The engine calls it; who may call the engine is judged elsewhere (engine/allow.go).
package policy

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sallyport-ci/sallyport"
)

//go:embed gates/default.rego
var defaultGate []byte

//go:embed schema/evidence.json
var evidenceSchema []byte

const (
	maxPolicyBytes = 256 << 10 // a gate is read by people
	maxInputBytes  = 4 << 20   // statements carry digests, not payloads
	maxReasons     = 100
	evalTimeout    = 5 * time.Second // a gate over one document takes well under a millisecond
	maxPrepared    = 64
)

// DefaultGate returns the source of the gate that every environment has:
// provenance verifies for this digest, built from the protected branch by this
// installation's builder, nothing missing.
func DefaultGate() []byte { return bytes.Clone(defaultGate) }

// Outcome is what a gate decided.
type Outcome struct {
	Decision sallyport.Decision
	Reasons  []string // sorted; never empty
}

// Gates evaluates gates. It keeps prepared policies, so that one Gates should
// serve for the life of the process; it may be used by several goroutines.
type Gates struct {
	schema *jsonschema.Schema
	caps   *ast.Capabilities

	mu       sync.Mutex
	prepared map[sallyport.Digest]rego.PreparedEvalQuery
}

// New returns an evaluator.
func New() (*Gates, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(evidenceSchema))
	if err != nil {
		return nil, fmt.Errorf("read evidence schema: %w", err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("evidence.json", doc); err != nil {
		return nil, fmt.Errorf("add evidence schema: %w", err)
	}
	schema, err := c.Compile("evidence.json")
	if err != nil {
		return nil, fmt.Errorf("compile evidence schema: %w", err)
	}
	return &Gates{schema: schema, caps: capabilities(), prepared: make(map[sallyport.Digest]rego.PreparedEvalQuery)}, nil
}

// forbidden are the built-in functions that would let a gate see anything but
// its document: a decision that used one could not be replayed.
var forbidden = map[string]bool{
	"http.send": true, "net.lookup_ip_addr": true, "opa.runtime": true, "rand.intn": true, "time.now_ns": true,
	"uuid.rfc4122": true, "trace": true, "print": true,
}

func capabilities() *ast.Capabilities {
	caps := ast.CapabilitiesForThisVersion()
	kept := caps.Builtins[:0:0]
	for _, b := range caps.Builtins {
		if !forbidden[b.Name] {
			kept = append(kept, b)
		}
	}
	caps.Builtins = kept
	caps.AllowNet = []string{}
	return caps
}

// Check compiles a gate's source and returns what is wrong with it, with the line (CodeInvalid).
func (g *Gates) Check(ctx context.Context, source []byte) error {
	_, err := g.prepare(ctx, source)
	return err
}

// Judge evaluates a gate over an evidence document, both as they will be kept
// with the verdict. A document that is not valid against the evidence schema, a
// gate that fails or that says neither allow nor deny: each is a denial with its
// reason. Only a source that does not compile is an error (CodeInvalid), and the
// end of ctx: who is told to stop has not judged.
func (g *Gates) Judge(ctx context.Context, source, document []byte) (Outcome, error) {
	query, err := g.prepare(ctx, source)
	if err != nil {
		return Outcome{}, err
	}
	input, err := g.validate(document)
	if err != nil {
		return deny("the evidence document is malformed: %v", err), nil
	}
	limited, cancel := context.WithTimeout(ctx, evalTimeout)
	defer cancel()
	results, err := query.Eval(limited, rego.EvalInput(input))
	if err != nil && ctx.Err() != nil {
		return Outcome{}, context.Cause(ctx)
	}
	if err != nil {
		return deny("the gate could not be evaluated: %v", err), nil
	}
	return outcome(results), nil
}

func (g *Gates) prepare(ctx context.Context, source []byte) (rego.PreparedEvalQuery, error) {
	if len(source) > maxPolicyBytes {
		return rego.PreparedEvalQuery{}, sallyport.Errorf(sallyport.CodeInvalid, "the gate is larger than %d bytes", maxPolicyBytes).WithHint("split it")
	}
	digest := sallyport.DigestOf(source)
	g.mu.Lock()
	defer g.mu.Unlock()
	if q, ok := g.prepared[digest]; ok {
		return q, nil
	}
	q, err := rego.New(
		rego.Query("data.sallyport.gate"),
		rego.Module("gate.rego", string(source)),
		rego.Capabilities(g.caps),
		rego.StrictBuiltinErrors(true),
		rego.Strict(true),
		rego.SetRegoVersion(ast.RegoV1),
	).PrepareForEval(ctx)
	if err != nil {
		return q, (&sallyport.Error{Code: sallyport.CodeInvalid, Message: "the gate does not compile: " + err.Error()}).
			WithHint("a gate is a Rego module of package sallyport.gate with the rules allow, ask and reasons")
	}
	if len(g.prepared) >= maxPrepared {
		clear(g.prepared)
	}
	g.prepared[digest] = q
	return q, nil
}

func (g *Gates) validate(document []byte) (any, error) {
	if len(document) > maxInputBytes {
		return nil, fmt.Errorf("larger than %d bytes", maxInputBytes)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return nil, err
	}
	if err := g.schema.Validate(v); err != nil {
		var ve *jsonschema.ValidationError
		if errors.As(err, &ve) {
			return nil, fmt.Errorf("%s", firstLine(ve.Error()))
		}
		return nil, err
	}
	return v, nil
}

// outcome reads the gate's rules: allow and ask are booleans, reasons a set of texts.
func outcome(results rego.ResultSet) Outcome {
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return deny("the gate gave no answer")
	}
	rules, ok := results[0].Expressions[0].Value.(map[string]any)
	if !ok {
		return deny("the gate gave no answer")
	}
	reasons, err := texts(rules["reasons"])
	if err != nil {
		return deny("the gate's reasons are not a set of texts: %v", err)
	}
	allow, okAllow := rules["allow"].(bool)
	if !okAllow {
		return deny("the gate's allow is not a boolean")
	}
	ask, _ := rules["ask"].(bool)
	o := Outcome{Decision: sallyport.Deny, Reasons: reasons}
	switch {
	case allow && ask:
		o.Decision = sallyport.Ask
	case allow:
		o.Decision = sallyport.Allow
	}
	if len(o.Reasons) == 0 {
		o.Reasons = []string{"the gate gave no reason"}
	}
	return o
}

func texts(v any) ([]string, error) {
	if v == nil {
		return nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out []string
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, err
	}
	return out[:min(len(out), maxReasons)], nil
}

func deny(format string, args ...any) Outcome {
	return Outcome{Decision: sallyport.Deny, Reasons: []string{fmt.Sprintf(format, args...)}}
}

func firstLine(s string) string {
	for _, line := range bytes.Split([]byte(s), []byte("\n")) {
		if l := bytes.TrimSpace(bytes.TrimLeft(line, "- ")); len(l) > 0 && !bytes.HasPrefix(l, []byte("jsonschema")) {
			return string(l)
		}
	}
	return s
}
