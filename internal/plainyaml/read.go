// Package plainyaml reads the part of YAML that people write: block and flow
// collections, plain, quoted and block scalars, comments, anchors and aliases.
// It makes the same tree as go.yaml.in/yaml, several times faster, and refuses
// whatever it is not sure of, valid or not: tags, complex keys, tabs between
// tokens, line ends other than LF, several documents. Who calls it then asks the
// library, which also says what is wrong with a file.
//
// It is not a YAML parser on its own, and knows nothing of workflows.
package plainyaml

import (
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	// maxDepth bounds the nesting, and with it the stack.
	maxDepth = 100
	// maxKey bounds a key in bytes; the library bounds it to 1024 characters.
	maxKey = 1000
	// chunk is how many nodes are allocated at once, 30 kB of them.
	chunk = 200
)

// Parse returns the root node of a document, nil unless it is sure that the
// library reads the source, without an error, as one document with the same
// tree: kinds, styles, values, anchors and places. Comments are left out, and so
// are tags, as the library tells those of nodes without one from their values.
//
// The nodes hold parts of one copy of the source.
func Parse(src []byte) *yaml.Node {
	r := reader{src: string(src), line: 1}
	if !r.characters() || !r.next() || r.end() {
		return nil
	}
	if r.marker() {
		if !strings.HasPrefix(r.src[r.pos:], "---\n") {
			return nil
		}
		if r.pos += len("---"); !r.next() || r.end() {
			return nil
		}
	}
	if n := r.block(-1, false); n != nil && n.Kind != yaml.ScalarNode && r.end() {
		return n
	}
	return nil
}

// reader reads one document. Its methods return nil or false as soon as they
// meet something to refuse; nothing may be called after that.
type reader struct {
	src   string
	pos   int // in src
	line  int // of pos, from 1
	bol   int // where it begins
	depth int

	wide    bool // there are characters of several bytes
	counted int  // up to where the characters of a line were counted
	before  int  // how many there were

	nodes   []yaml.Node  // room for nodes
	links   []*yaml.Node // room for their contents
	open    []*yaml.Node // the contents so far of the collections that pos is in
	buf     []byte
	anchors map[string]*yaml.Node
}

// characters reports whether all characters are ones that stand for themselves,
// and makes room for nodes.
func (r *reader) characters() bool {
	lines := 0
	for i := 0; i < len(r.src); i++ {
		c := r.src[i]
		switch {
		case ' ' <= c && c <= '~' || c == '\t':
		case c == '\n':
			lines++
		case c < utf8.RuneSelf:
			return false
		default:
			r.wide = true
			u, n := utf8.DecodeRuneInString(r.src[i:])
			switch {
			case u == utf8.RuneError && n == 1, u < 0xA0, u == 0x2028, u == 0x2029, u == 0xFEFF, u == 0xFFFE, u == 0xFFFF:
				return false // not UTF-8, a control character, a line end, or a mark of the byte order
			}
			i += n - 1
		}
	}
	n := min(3*lines+8, chunk)
	r.nodes, r.links = make([]yaml.Node, 0, n), make([]*yaml.Node, 0, n)
	return true
}

// node makes a node that begins here.
func (r *reader) node(kind yaml.Kind, style yaml.Style) *yaml.Node {
	if len(r.nodes) == cap(r.nodes) {
		r.nodes = make([]yaml.Node, 0, chunk)
	}
	r.nodes = r.nodes[:len(r.nodes)+1]
	n := &r.nodes[len(r.nodes)-1]
	n.Kind, n.Style, n.Line, n.Column = kind, style, r.line, r.column()
	return n
}

// close gives n the contents that were opened since there were base of them.
func (r *reader) close(n *yaml.Node, base int) *yaml.Node {
	items := r.open[base:]
	if len(items) > cap(r.links)-len(r.links) {
		r.links = make([]*yaml.Node, 0, max(4*chunk, len(items)))
	}
	from := len(r.links)
	r.links = append(r.links, items...)
	if len(items) > 0 {
		n.Content = r.links[from:len(r.links):len(r.links)]
	}
	r.open = r.open[:base]
	return n
}

// column is the column of this character, from 1. It counts on from where it was
// asked for before, as lines can be as long as the file.
func (r *reader) column() int {
	if !r.wide {
		return 1 + r.pos - r.bol
	}
	if r.counted < r.bol || r.counted > r.pos {
		r.counted, r.before = r.bol, 0
	}
	r.before += utf8.RuneCountInString(r.src[r.counted:r.pos])
	r.counted = r.pos
	return 1 + r.before
}

// indent is the column of the token here, from 0. It is asked for only where
// spaces and dashes alone stand before it.
func (r *reader) indent() int { return r.pos - r.bol }

func (r *reader) end() bool { return r.pos == len(r.src) }

// blank reports whether a blank, a line end or the end is at i.
func (r *reader) blank(i int) bool {
	return i >= len(r.src) || r.src[i] == ' ' || r.src[i] == '\n' || r.src[i] == '\t'
}

// dash reports whether an entry of a block sequence begins here.
func (r *reader) dash() bool { return !r.end() && r.src[r.pos] == '-' && r.blank(r.pos+1) }

// marker reports whether the line that begins here is one between documents.
func (r *reader) marker() bool {
	rest := r.src[r.pos:]
	return r.pos == r.bol && (strings.HasPrefix(rest, "---") || strings.HasPrefix(rest, "..."))
}

// newline goes on after the line end here.
func (r *reader) newline() {
	r.pos++
	r.line++
	r.bol = r.pos
}

// lineEnd is where the line that holds i ends.
func (r *reader) lineEnd(i int) int {
	if n := strings.IndexByte(r.src[i:], '\n'); n >= 0 {
		return i + n
	}
	return len(r.src)
}

// next goes to the next token, over spaces, comments and line ends.
func (r *reader) next() bool {
	for r.pos < len(r.src) {
		switch r.src[r.pos] {
		case ' ':
			r.pos++
		case '\n':
			r.newline()
		case '#':
			if r.pos > r.bol && r.src[r.pos-1] != ' ' {
				return false
			}
			r.pos = r.lineEnd(r.pos)
		case '\t':
			return false
		default:
			return true
		}
	}
	return true
}

// last goes to the next token if that is in another line.
func (r *reader) last() bool {
	line := r.line
	return r.next() && (r.end() || r.line > line)
}

// block reads a node in a block collection of the given indent, -1 for none,
// and goes to the token after it, which begins a line. Of what shares its line
// with the key before it, only scalars and flow collections can be read.
func (r *reader) block(parent int, inline bool) *yaml.Node {
	if r.depth++; r.depth > maxDepth {
		return nil
	}
	defer func() { r.depth-- }()
	indent, start := r.indent(), r.pos
	var n *yaml.Node
	switch c := r.src[r.pos]; {
	case r.dash():
		if inline {
			return nil
		}
		return r.sequence(indent, false)
	case c == '|' || c == '>':
		if n = r.blockScalar(parent); n == nil || !r.next() {
			return nil
		}
		return n
	case c == '[' || c == '{' || c == '*':
		n = r.flow()
	default:
		n = r.scalar(parent, false)
		if n != nil && !inline && r.colon(n, start) {
			return r.mapping(indent, n)
		}
	}
	if n == nil || !r.last() {
		return nil
	}
	return n
}

// colon reports whether the scalar that began at start and ends here is the key
// of a block mapping, and goes to its colon.
func (r *reader) colon(n *yaml.Node, start int) bool {
	i := r.pos
	for i < len(r.src) && r.src[i] == ' ' {
		i++
	}
	if i == len(r.src) || r.src[i] != ':' || !r.blank(i+1) || n.Line != r.line || i-start > maxKey {
		return false
	}
	r.pos = i
	return true
}

// mapping reads a block mapping of an indent whose first key was read.
func (r *reader) mapping(indent int, key *yaml.Node) *yaml.Node {
	n := r.node(yaml.MappingNode, 0)
	n.Line, n.Column = key.Line, key.Column
	for base := len(r.open); ; {
		r.pos++
		v := r.value(indent, true)
		if v == nil {
			return nil
		}
		r.open = append(r.open, key, v)
		if r.end() || r.indent() < indent {
			return r.close(n, base)
		}
		if start := r.pos; r.indent() > indent || r.marker() {
			return nil
		} else if key = r.scalar(indent, false); key == nil || !r.colon(key, start) {
			return nil
		}
	}
}

// sequence reads a block sequence of an indent. One that has the indent of the
// mapping it is in ends before the next key.
func (r *reader) sequence(indent int, indentless bool) *yaml.Node {
	n := r.node(yaml.SequenceNode, 0)
	for base := len(r.open); ; {
		r.pos++
		v := r.value(indent, false)
		if v == nil {
			return nil
		}
		r.open = append(r.open, v)
		switch {
		case r.end() || r.indent() < indent || r.indent() == indent && indentless && !r.dash():
			return r.close(n, base)
		case r.indent() > indent || !r.dash():
			return nil
		}
	}
}

// value reads what follows the colon or the dash before this place, in a block
// mapping or a block sequence of an indent, and goes to the token after it.
func (r *reader) value(indent int, mapping bool) *yaml.Node {
	empty := yaml.Node{Kind: yaml.ScalarNode, Line: r.line, Column: r.column()}
	anchor := ""
	if !r.next() {
		return nil
	}
	if !r.end() && r.line == empty.Line && r.src[r.pos] == '&' {
		empty.Line, empty.Column = r.line, r.column()
		if anchor = r.name(); anchor == "" || !r.next() || r.end() || strings.IndexByte("&*!", r.src[r.pos]) >= 0 {
			return nil
		}
		delete(r.anchors, anchor) // within what it names, it is no other any more
	}
	var n *yaml.Node
	switch inline := r.line == empty.Line && !r.end(); {
	case inline:
		n = r.block(indent, mapping || anchor != "")
	case !r.end() && r.indent() > indent:
		n = r.block(indent, false)
	case mapping && r.indent() == indent && r.dash():
		n = r.sequence(indent, true)
	case anchor == "":
		n = r.node(yaml.ScalarNode, 0)
		*n = empty
	}
	if n != nil && anchor != "" {
		if r.anchors == nil {
			r.anchors = map[string]*yaml.Node{}
		}
		n.Anchor, n.Line, n.Column = anchor, empty.Line, empty.Column
		if r.anchors[anchor] == nil { // else something within has taken the name since
			r.anchors[anchor] = n
		}
	}
	return n
}

// name reads the name after the & or * here; "" if it is none of letters,
// digits, _ and - with an ordinary end.
func (r *reader) name() string {
	start := r.pos + 1
	for r.pos = start; r.pos < len(r.src); r.pos++ {
		c := r.src[r.pos]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-') {
			break
		}
	}
	if !r.blank(r.pos) && strings.IndexByte(",]}", r.src[r.pos]) < 0 {
		return ""
	}
	return r.src[start:r.pos]
}

// flow reads a node in a flow collection, or such a collection.
func (r *reader) flow() *yaml.Node {
	if r.depth++; r.depth > maxDepth || r.marker() {
		return nil
	}
	defer func() { r.depth-- }()
	switch r.src[r.pos] {
	case '*':
		n := r.node(yaml.AliasNode, 0)
		n.Value = r.name()
		if n.Alias = r.anchors[n.Value]; n.Alias == nil {
			return nil
		}
		return n
	case '[':
		return r.flowCollection(yaml.SequenceNode, ']')
	case '{':
		return r.flowCollection(yaml.MappingNode, '}')
	}
	return r.scalar(-1, true)
}

// flowCollection reads the flow collection that begins here and ends with the
// given character.
func (r *reader) flowCollection(kind yaml.Kind, end byte) *yaml.Node {
	n := r.node(kind, yaml.FlowStyle)
	for base := len(r.open); ; {
		r.pos++
		if !r.next() || r.end() {
			return nil
		}
		if r.src[r.pos] == end {
			r.pos++
			return r.close(n, base)
		}
		if kind == yaml.MappingNode && !r.flowKey() {
			return nil
		}
		v := r.flow()
		if v == nil || !r.next() || r.end() {
			return nil
		}
		r.open = append(r.open, v)
		switch r.src[r.pos] {
		case ',':
		case end:
			r.pos++
			return r.close(n, base)
		default:
			return nil
		}
	}
}

// flowKey reads a key of a flow mapping and its colon, and goes to the value.
func (r *reader) flowKey() bool {
	start := r.pos
	if r.marker() {
		return false
	}
	k := r.scalar(-1, true)
	if k == nil {
		return false
	}
	for r.pos < len(r.src) && r.src[r.pos] == ' ' {
		r.pos++
	}
	if r.end() || r.src[r.pos] != ':' || k.Line != r.line || r.pos-start > maxKey {
		return false
	}
	r.open = append(r.open, k)
	r.pos++
	return r.next() && !r.end()
}
