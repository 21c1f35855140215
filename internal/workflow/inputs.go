package workflow

import (
	"math"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// inputs returns the inputs context of the event: for workflow_dispatch the
// declared inputs with their types, else an empty object.
func (c *compiler) inputs() Value {
	out := newObject(0, false)
	result := Value{kind: KindObject, obj: out}
	if c.in.Event.Name != "workflow_dispatch" {
		return result
	}
	i := slices.IndexFunc(c.in.File.On, func(t Trigger) bool { return t.Name == "workflow_dispatch" })
	if i < 0 {
		c.report(sallyport.Pos{Line: 1, Col: 1}, "the workflow cannot be started by hand: add workflow_dispatch to its \"on\"")
		return result
	}
	trigger := c.in.File.On[i]
	given, ok := c.givenInputs(trigger)
	if !ok {
		return result
	}
	for _, in := range trigger.Inputs {
		v, ok := given.Get(in.Name)
		if !ok || v.Kind() == KindNull {
			if in.Required && in.Default.IsZero() {
				c.report(in.Pos, "the input %s is required and was not given", quote(in.Name))
				out.set(in.Name, Null)
				continue
			}
			v = defaultInput(in)
		}
		out.set(in.Name, c.typedInput(in, v))
	}
	for _, e := range given.Entries() {
		if _, ok := out.get(e.Key); !ok {
			c.report(trigger.Pos, "the workflow has no input %s%s", quote(e.Key), didYouMean(e.Key, out.keys))
		}
	}
	return result
}

func (c *compiler) givenInputs(t Trigger) (Value, bool) {
	raw := c.in.Event.Inputs
	if len(raw) == 0 {
		return Object(), true
	}
	if len(raw) > maxInputBytes {
		c.report(t.Pos, "the inputs have %d bytes; at most %d are allowed", len(raw), maxInputBytes)
		return Null, false
	}
	v, err := FromJSON(raw)
	if err != nil || v.Kind() != KindObject && v.Kind() != KindNull {
		c.report(t.Pos, "the inputs are not a JSON object of names to values")
		return Null, false
	}
	if v.Kind() == KindNull {
		return Object(), true
	}
	return v, true
}

// defaultInput is the declared default, else the empty value of the type.
func defaultInput(in Input) Value {
	switch in.Default.Kind {
	case sallyport.TreeBool:
		return Bool(in.Default.Text == "true")
	case sallyport.TreeNumber:
		return Number(treeNumber(in.Default.Text))
	case sallyport.TreeString:
		return String(in.Default.Text)
	}
	switch in.Type {
	case "boolean":
		return Bool(false)
	case "number":
		return Number(0)
	}
	return String("")
}

// typedInput checks a value and brings it to the type of its input.
func (c *compiler) typedInput(in Input, v Value) Value {
	if !primitive(v) {
		c.report(in.Pos, "the input %s must be text, a number or a boolean, not %s", quote(in.Name), article(v.Kind()))
		return Null
	}
	text := v.String()
	switch in.Type {
	case "boolean":
		if text != "true" && text != "false" {
			c.report(in.Pos, "the input %s must be true or false, not %s", quote(in.Name), quote(text))
		}
		return Bool(text == "true")
	case "number":
		f := parseNumber(text)
		if math.IsNaN(f) || math.IsInf(f, 0) || strings.TrimSpace(text) == "" {
			c.report(in.Pos, "the input %s must be a number, not %s", quote(in.Name), quote(text))
		}
		return Number(f)
	case "choice":
		var options []string
		for _, o := range in.Options {
			options = append(options, o.Text)
		}
		if !slices.Contains(options, text) && (text != "" || in.Required) {
			c.report(in.Pos, "the input %s is %s; there are %s", quote(in.Name), quote(text), strings.Join(options, ", "))
		}
	}
	if text == "" && in.Required {
		c.report(in.Pos, "the input %s is required and was empty", quote(in.Name))
	}
	return String(text)
}
