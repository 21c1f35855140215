package egress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport"
)

// reader walks the file's nodes and collects what is wrong with them. A walk
// goes on after a mistake, so that one reading names them all.
type reader struct{ diags []sallyport.Diagnostic }

func place(n *yaml.Node) sallyport.Pos { return sallyport.Pos{Line: n.Line, Col: n.Column} }

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	r.failAt(place(n), format, args...)
}

func (r *reader) failAt(at sallyport.Pos, format string, args ...any) {
	if len(r.diags) < maxDiagnostics {
		r.diags = append(r.diags, sallyport.Diagnostic{File: File, Pos: at, Severity: "error", Message: fmt.Sprintf(format, args...)})
	}
}

// quote is a scalar's text in a message, bounded.
func quote(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return "this"
	}
	return fmt.Sprintf("%.80q", n.Value)
}

var yamlLine = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)`)

// load returns the top map; nil when there is none, which is in diags then.
func (r *reader) load(src []byte) *yaml.Node {
	start := sallyport.Pos{Line: 1, Col: 1}
	if len(src) > MaxBytes {
		r.failAt(start, "the file is larger than %d bytes; merge rules for hosts below one name", MaxBytes)
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var root, more yaml.Node
	err := dec.Decode(&root)
	if errors.Is(err, io.EOF) {
		r.failAt(start, "the file is empty; write network: none, listed or registries")
		return nil
	}
	if err != nil {
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			if line, _ := strconv.Atoi(m[1]); line > 0 {
				start.Line = line
			}
			err = errors.New(m[2])
		}
		r.failAt(start, "this is not YAML: %.200s; mend the syntax", err)
		return nil
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		if more.Line > 0 {
			start = place(&more)
		}
		r.failAt(start, "a second document begins; the rules are one")
		return nil
	}
	if !r.plain(&root, 0) {
		return nil
	}
	return root.Content[0]
}

// plain refuses aliases, tags and depth: this file needs none of them.
func (r *reader) plain(n *yaml.Node, depth int) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		r.fail(n, "anchors and aliases are not allowed here; write the value out")
		return false
	case n.Style&yaml.TaggedStyle != 0:
		r.fail(n, "tags are not allowed here; write the value without %.40q", n.Tag)
		return false
	case depth > maxDepth:
		r.fail(n, "nested too deeply; the format needs no more than four levels")
		return false
	}
	for _, c := range n.Content {
		if !r.plain(c, depth+1) {
			return false
		}
	}
	return true
}

// fields are what a map may hold, by key.
type fields map[string]func(*yaml.Node)

// fields reads a map strictly: an unknown, repeated or missing key is an error.
// It reports whether nothing in the map was wrong.
func (r *reader) fields(n *yaml.Node, what string, known fields, needed ...string) bool {
	before := len(r.diags)
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s must be a map of %s", what, oneOf(slices.Sorted(maps.Keys(known))))
		return false
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		read, ok := known[k.Value]
		switch {
		case !ok || k.Kind != yaml.ScalarNode:
			r.fail(k, "%s has no key %s; it may have %s", what, quote(k), oneOf(slices.Sorted(maps.Keys(known))))
		case seen[k.Value]:
			r.fail(k, "%s stands twice; keep one", k.Value)
		default:
			read(n.Content[i+1])
		}
		seen[k.Value] = true
	}
	for _, k := range needed {
		if !seen[k] {
			r.fail(n, "%s needs %s:", what, k)
		}
	}
	return len(r.diags) == before
}

func oneOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// list returns the items of a sequence that must hold some.
func (r *reader) list(n *yaml.Node, what string, most int) []*yaml.Node {
	switch {
	case n.Kind != yaml.SequenceNode:
		r.fail(n, "%s: must be a list; begin each entry with a dash, or write it in brackets", what)
	case len(n.Content) == 0:
		r.fail(n, "%s: is empty; leave the key out", what)
	case len(n.Content) > most:
		r.fail(n.Content[most], "%s: has more than %d entries; merge or drop some", what, most)
	default:
		return n.Content
	}
	return nil
}

func (r *reader) boolean(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || n.Value != "true" && n.Value != "false" {
		r.fail(n, "%s is neither true nor false", quote(n))
	}
	return n.Value == "true"
}

// text reads a scalar of one printable line.
func (r *reader) text(n *yaml.Node, what string) string {
	switch {
	case n.Kind != yaml.ScalarNode || n.Value == "" || n.Tag == "!!null":
		r.fail(n, "%s: needs a value", what)
	case len(n.Value) > maxText:
		r.fail(n, "%s: is longer than %d bytes; shorten it", what, maxText)
	case strings.ContainsFunc(n.Value, control):
		r.fail(n, "%s: %s holds a line end or a control character; take it out", what, quote(n))
	default:
		return n.Value
	}
	return ""
}

func control(c rune) bool { return c < ' ' || c >= 0x7f && c < 0xa0 || c == '\u2028' || c == '\u2029' }

// word reads a scalar of a fixed shape.
func (r *reader) word(n *yaml.Node, what string, shape *regexp.Regexp, mend string) string {
	v := r.text(n, what)
	if v == "" {
		return ""
	}
	if !shape.MatchString(v) {
		r.fail(n, "%s: %s will not do; %s", what, quote(n), mend)
		return ""
	}
	return v
}

// words reads a list of different words, each by the given reader, which answers "" for a bad one.
func (r *reader) words(n *yaml.Node, what string, read func(*yaml.Node) string) []string {
	var out []string
	for _, item := range r.list(n, what, maxWords) {
		v := read(item)
		if v == "" {
			continue
		}
		if slices.Contains(out, v) {
			r.fail(item, "%s: %s stands twice; keep one", what, quote(item))
			continue
		}
		out = append(out, v)
	}
	return out
}
