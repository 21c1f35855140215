package workflow

import (
	"bytes"
	"errors"
	"io"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/plainyaml"
	"go.yaml.in/yaml/v3"
)

// decoder reads one YAML file into typed nodes. It collects what is wrong and
// goes on, so that the author sees all of it at once.
type decoder struct {
	path  string
	src   []byte
	lines []string // of src, split when first needed
	diags diagnostics
	steps int // seen so far

	parser exprParser // for one text after the other
	segs   []segment  // room for those of one
}

// begin makes the parser ready for a text. What it made of the text before is
// not valid any more.
func (d *decoder) begin() *exprParser {
	if d.parser.known == nil {
		d.parser.known = isContext
		d.parser.reserve(48)
	}
	d.parser.reset()
	return &d.parser
}

// report records an error at a place.
func (d *decoder) report(pos sallyport.Pos, format string, args ...any) {
	d.diags.add(d.path, severityError, pos, format, args...)
}

// warn records a warning at a place.
func (d *decoder) warn(pos sallyport.Pos, format string, args ...any) {
	d.diags.add(d.path, severityWarning, pos, format, args...)
}

// document parses the source and returns its root mapping; nil after an error.
func (d *decoder) document() *yaml.Node {
	start := sallyport.Pos{Line: 1, Col: 1}
	if len(d.src) > maxFileBytes {
		d.report(start, "the file has %d bytes; at most %d are read", len(d.src), maxFileBytes)
		return nil
	}
	if !utf8.Valid(d.src) {
		d.report(start, "the file is not valid UTF-8: save it as UTF-8")
		return nil
	}
	root := plainyaml.Parse(d.src)
	if root == nil {
		root = d.anyYAML()
	}
	if root == nil {
		return nil
	}
	x := expander{d: d, done: map[*yaml.Node]extent{}, open: map[*yaml.Node]bool{}}
	if _, ok := x.expand(root, 1); !ok {
		return nil
	}
	return root
}

// anyYAML parses the source by the whole of YAML's rules, and reports what is
// against them; nil after an error.
func (d *decoder) anyYAML() *yaml.Node {
	start := sallyport.Pos{Line: 1, Col: 1}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(d.src))
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			d.report(start, "the file is empty")
		} else {
			d.report(d.yamlErrorPos(err), "not valid YAML: %s", yamlErrorText(err))
		}
		return nil
	}
	var next yaml.Node
	if err := dec.Decode(&next); !errors.Is(err, io.EOF) {
		if err != nil {
			d.report(d.yamlErrorPos(err), "not valid YAML: %s", yamlErrorText(err))
		} else {
			d.report(posOf(&next), "the file holds more than one document: remove the line --- and what follows, or make a file of it")
		}
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		d.report(start, "the file is empty")
		return nil
	}
	return doc.Content[0]
}

var (
	yamlErrorLine    = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)
	yamlErrorUnknown = regexp.MustCompile(`unknown anchor '([A-Za-z0-9_-]+)'`)
)

// yamlErrorPos is where an error of the YAML parser was found. Of an alias
// without an anchor the parser does not tell, so it is looked for.
func (d *decoder) yamlErrorPos(err error) sallyport.Pos {
	pos := sallyport.Pos{Line: 1, Col: 1}
	if m := yamlErrorLine.FindStringSubmatch(err.Error()); m != nil && m[1] != "" {
		pos.Line, _ = strconv.Atoi(m[1])
	}
	if m := yamlErrorUnknown.FindStringSubmatch(err.Error()); m != nil {
		alias := regexp.MustCompile(`(?:^|[\s\[{,])(\*` + m[1] + `)(?:$|[\s\]},])`)
		if at := alias.FindSubmatchIndex(d.src); at != nil {
			before := d.src[:at[2]]
			pos.Line = 1 + bytes.Count(before, []byte("\n"))
			pos.Col = 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
		}
	}
	return pos
}

func yamlErrorText(err error) string {
	text := yamlErrorLine.ReplaceAllString(err.Error(), "")
	switch {
	case strings.Contains(text, "cannot start any token"):
		text += ": indent with spaces, not with tabs, and put values that start with @, ` or % in quotes"
	case strings.Contains(text, "mapping values are not allowed"):
		text += ": check the indentation, and put values that contain a colon in quotes"
	}
	return text
}

// expander replaces aliases by what they stand for. The result shares nodes,
// so its extent is counted as if it did not.
type expander struct {
	d    *decoder
	done map[*yaml.Node]extent // of nodes with an anchor
	open map[*yaml.Node]bool   // of these, those being expanded: an alias to one is a cycle
}

// extent is how many nodes a node stands for, how deep they are nested, and how
// many bytes of text they hold.
type extent struct{ size, height, text int }

// expand replaces the aliases below n; false after an error.
func (x *expander) expand(n *yaml.Node, depth int) (extent, bool) {
	if n.Anchor != "" {
		if e, ok := x.done[n]; ok {
			return e, x.fits(n, e, depth)
		}
		x.open[n] = true
		defer delete(x.open, n)
	}
	e := extent{size: 1, height: 1, text: len(n.Value)}
	if !x.fits(n, e, depth) || !x.tagged(n) {
		return e, false
	}
	for i, c := range n.Content {
		if c.Kind == yaml.AliasNode {
			if c.Alias == nil || x.open[c.Alias] {
				x.d.report(posOf(c), "the alias *%s refers to something that contains it", c.Value)
				return e, false
			}
			target := *c.Alias // with the place of the alias: positions tell where it is used
			target.Line, target.Column = c.Line, c.Column
			n.Content[i] = &target
			c = c.Alias
		}
		below, ok := x.expand(c, depth+1)
		if !ok {
			return e, false
		}
		e.size += below.size
		e.height = max(e.height, below.height+1)
		e.text += below.text
		if !x.fits(n, e, depth) {
			return e, false
		}
	}
	if n.Anchor != "" {
		x.done[n] = e
	}
	return e, true
}

func (x *expander) fits(n *yaml.Node, e extent, depth int) bool {
	switch {
	case e.size > maxYAMLNodes:
		x.d.report(posOf(n), "the file has more than %d nodes once its aliases are expanded", maxYAMLNodes)
	case e.text > maxYAMLText:
		x.d.report(posOf(n), "the file has more than %d bytes of text once its aliases are expanded", maxYAMLText)
	case depth+e.height-1 > maxYAMLDepth:
		x.d.report(posOf(n), "nested deeper than %d levels", maxYAMLDepth)
	default:
		return true
	}
	return false
}

// tagged checks a tag that the author wrote: one of YAML's core schema, which
// the value fits.
func (x *expander) tagged(n *yaml.Node) bool {
	if n.Style&yaml.TaggedStyle == 0 {
		return true
	}
	fits := false
	switch kind, _ := scalar(n); n.Tag {
	case "!!map":
		fits = n.Kind == yaml.MappingNode
	case "!!seq":
		fits = n.Kind == yaml.SequenceNode
	case "!!str", "!":
		fits = n.Kind == yaml.ScalarNode
	case "!!int":
		fits = n.Kind == yaml.ScalarNode && unquoted(n) && yamlInt.MatchString(n.Value)
	case "!!float":
		fits = n.Kind == yaml.ScalarNode && unquoted(n) && kind == sallyport.TreeNumber && !strings.ContainsAny(n.Value, "xo")
	case "!!bool":
		fits = n.Kind == yaml.ScalarNode && unquoted(n) && kind == sallyport.TreeBool
	case "!!null":
		fits = n.Kind == yaml.ScalarNode && unquoted(n) && kind == sallyport.TreeNull
	}
	if !fits {
		x.d.report(posOf(n), "the tag %s does not fit the value %s: remove the tag", quote(n.Tag), quote(n.Value))
	}
	return fits
}

// unquoted reports whether a scalar is neither quoted nor a block.
func unquoted(n *yaml.Node) bool {
	return n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
}

func posOf(n *yaml.Node) sallyport.Pos { return sallyport.Pos{Line: n.Line, Col: n.Column} }

// Numbers of YAML 1.2's core schema.
var (
	yamlInt   = regexp.MustCompile(`^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$`)
	yamlFloat = regexp.MustCompile(`^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$`)
)

// scalar resolves a scalar by YAML 1.2's core schema and returns its kind and
// its text in canonical form: 3.10 is the number 3.1, True is true.
func scalar(n *yaml.Node) (sallyport.TreeKind, string) {
	v := n.Value
	if !unquoted(n) || n.Style&yaml.TaggedStyle != 0 && (n.Tag == "!!str" || n.Tag == "!") {
		return sallyport.TreeString, v
	}
	switch v {
	case "", "~", "null", "Null", "NULL":
		return sallyport.TreeNull, ""
	case "true", "True", "TRUE":
		return sallyport.TreeBool, "true"
	case "false", "False", "FALSE":
		return sallyport.TreeBool, "false"
	case ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF":
		return sallyport.TreeNumber, "Infinity"
	case "-.inf", "-.Inf", "-.INF":
		return sallyport.TreeNumber, "-Infinity"
	case ".nan", ".NaN", ".NAN":
		return sallyport.TreeNumber, "NaN"
	}
	if c := v[0]; c > '9' || c < '+' { // most scalars are text
		return sallyport.TreeString, v
	}
	switch {
	case yamlInt.MatchString(v) && len(v) > 2 && (v[1] == 'o' || v[1] == 'x'):
		i, _ := new(big.Int).SetString(v, 0)
		f, _ := new(big.Float).SetInt(i).Float64() // infinite when it is too large, as below
		return sallyport.TreeNumber, formatNumber(f)
	case yamlInt.MatchString(v), yamlFloat.MatchString(v):
		f, _ := strconv.ParseFloat(v, 64)
		return sallyport.TreeNumber, formatNumber(f)
	}
	return sallyport.TreeString, v
}

// text reads a scalar as text without expressions, unless one is a text in
// quotes; numbers and booleans count as text. Null counts as absent.
func (d *decoder) text(n *yaml.Node, what string) sallyport.Template {
	t := d.rawText(n, what)
	if isExpr(t.Text) {
		if literal, ok := literalExpr(t.Text); ok {
			t.Text = literal
		} else {
			d.report(t.Pos, "expressions are not allowed in %s", what)
		}
	}
	return t
}

func (d *decoder) rawText(n *yaml.Node, what string) sallyport.Template {
	t := sallyport.Template{Pos: posOf(n)}
	if n.Kind != yaml.ScalarNode {
		d.report(t.Pos, "%s must be text, not %s", what, kindName(n))
		return t
	}
	_, t.Text = scalar(n)
	return t
}

// template reads a scalar that may hold expressions.
func (d *decoder) template(n *yaml.Node, what string, at *place) sallyport.Template {
	t := d.rawText(n, what)
	d.checkTemplate(n, t.Text, at)
	return t
}

// checkTemplate parses the expressions of a text and checks them against the
// place they are in.
func (d *decoder) checkTemplate(n *yaml.Node, text string, at *place) {
	if !isExpr(text) {
		return
	}
	segs, err := d.begin().template(text, d.segs[:0])
	if size := formatLength(segs); err == nil && size > maxExprLength {
		err = exprErrorf(0, "the text and its expressions are one expression for GitHub, which has %d characters; at most %d are allowed: move the text into a file, or the values into env", size, maxExprLength)
	}
	d.checkSegments(n, text, segs, err, at)
}

func (d *decoder) checkSegments(n *yaml.Node, text string, segs []segment, err *exprError, at *place) {
	if cap(segs) > cap(d.segs) {
		d.segs = segs
	}
	for _, s := range segs {
		if err == nil && s.expr != nil {
			err = at.check(s.expr)
		}
	}
	if err != nil {
		d.report(d.within(n, text, err.pos), "%s", err.msg)
	}
}

// condition reads an if.
func (d *decoder) condition(n *yaml.Node, at *place) sallyport.Template {
	t := d.rawText(n, "if")
	segs, err := d.begin().condition(t.Text, d.segs[:0])
	d.checkSegments(n, t.Text, segs, err, at)
	if err == nil && len(segs) > 1 {
		d.warn(t.Pos, "this condition is always true: text around ${{ }}, or a line end after it, makes it a text; leave ${{ }} away, or put all of it inside")
	}
	return t
}

// tree reads any value, with expressions at its scalars. Without a place these
// are not checked.
func (d *decoder) tree(n *yaml.Node, at *place) sallyport.Tree {
	t := sallyport.Tree{Pos: posOf(n)}
	switch n.Kind {
	case yaml.ScalarNode:
		t.Kind, t.Text = scalar(n)
		if t.Kind == sallyport.TreeString && at != nil {
			d.checkTemplate(n, t.Text, at)
		}
	case yaml.SequenceNode:
		t.Kind = sallyport.TreeSeq
		if len(n.Content) > 0 {
			t.Items = make([]sallyport.Tree, 0, len(n.Content))
		}
		for _, c := range n.Content {
			t.Items = append(t.Items, d.tree(c, at))
		}
	case yaml.MappingNode:
		t.Kind = sallyport.TreeMap
		entries := d.entries(n)
		if len(entries) > 0 {
			t.Pairs = make([]sallyport.TreePair, 0, len(entries))
		}
		for _, e := range entries {
			if at != nil && !isInsert(e.key.Text) {
				d.checkTemplate(e.keyNode, e.key.Text, at)
			}
			t.Pairs = append(t.Pairs, sallyport.TreePair{Key: e.key, Value: d.tree(e.val, at)})
		}
	}
	return t
}

// entry is one entry of a mapping.
type entry struct {
	key     sallyport.Template
	keyNode *yaml.Node
	val     *yaml.Node
}

// entries returns the entries of a mapping, without those whose key is
// unusable or repeated.
func (d *decoder) entries(n *yaml.Node) []entry {
	out := make([]entry, 0, len(n.Content)/2)
	var seen names
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		e := entry{key: sallyport.Template{Pos: posOf(k)}, keyNode: k, val: n.Content[i+1]}
		if k.Kind != yaml.ScalarNode {
			d.report(e.key.Pos, "a key must be text, not %s", kindName(k))
			continue
		}
		_, e.key.Text = scalar(k)
		switch {
		case e.key.Text == "<<" && k.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) == 0:
			d.report(e.key.Pos, "merge keys (<<) are not part of the workflow language: write the entries out, or use ${{ insert }}")
			continue
		case isInsert(e.key.Text): // may repeat
		case !seen.add(e.key.Text):
			d.report(e.key.Pos, "%s is already defined in this mapping", quote(e.key.Text))
			continue
		}
		out = append(out, e)
	}
	return out
}

// names is a set of names without regard to case. Most mappings have few keys,
// for which a list is faster than a map.
type names struct {
	few  [16]string
	n    int             // of few
	many map[string]bool // nil while there are few
}

// add reports false if the name is there already.
func (s *names) add(name string) bool {
	name = foldCase(name)
	if slices.Contains(s.few[:s.n], name) || s.many[name] {
		return false
	}
	if s.n < len(s.few) {
		s.few[s.n] = name
		s.n++
		return true
	}
	if s.many == nil {
		s.many = map[string]bool{}
	}
	s.many[name] = true
	return true
}

// fields returns the entries of a mapping whose keys are known; others are
// reported. what names the mapping in messages.
func (d *decoder) fields(n *yaml.Node, what string, known []string) []entry {
	if n.Kind != yaml.MappingNode {
		d.report(posOf(n), "%s must be a mapping with the keys %s, not %s", what, strings.Join(known, ", "), kindName(n))
		return nil
	}
	all := d.entries(n)
	out := all[:0]
	for _, e := range all {
		if slices.Contains(known, e.key.Text) {
			out = append(out, e)
			continue
		}
		d.report(e.key.Pos, "unknown key %s in %s%s; allowed are %s", quote(e.key.Text), what, didYouMean(e.key.Text, known), strings.Join(known, ", "))
	}
	return out
}

// texts reads a text or a sequence of texts, without expressions.
func (d *decoder) texts(n *yaml.Node, what string) []sallyport.Template {
	if n.Kind != yaml.SequenceNode {
		t := d.text(n, what)
		if t.Text == "" {
			return nil
		}
		return []sallyport.Template{t}
	}
	out := make([]sallyport.Template, 0, len(n.Content))
	for _, c := range n.Content {
		t := d.text(c, "an item of "+what)
		switch {
		case c.Kind != yaml.ScalarNode: // reported already
		case t.Text == "":
			d.report(t.Pos, "an item of %s is empty: remove it", what)
		default:
			out = append(out, t)
		}
	}
	return out
}

// flag reads true or false.
func (d *decoder) flag(n *yaml.Node, what string) bool {
	if kind, text := scalar(n); n.Kind == yaml.ScalarNode && kind == sallyport.TreeBool {
		return text == "true"
	}
	d.report(posOf(n), "%s must be true or false", what)
	return false
}

// isNull reports whether n is an empty value, as after "key:".
func isNull(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode {
		return false
	}
	kind, _ := scalar(n)
	return kind == sallyport.TreeNull
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a sequence"
	case yaml.ScalarNode:
		if isNull(n) {
			return "empty"
		}
		return "text"
	}
	return "this"
}

// within returns the place in the file of a byte of a scalar's text, as far as
// YAML's folding and escapes let it be told; else the scalar's own place.
func (d *decoder) within(n *yaml.Node, text string, off int) sallyport.Pos {
	pos := posOf(n)
	if off > len(text) {
		off = len(text)
	}
	line := strings.Count(text[:off], "\n")
	col := utf8.RuneCountInString(text[strings.LastIndexByte(text[:off], '\n')+1 : off])
	switch {
	case n.Style&yaml.LiteralStyle != 0:
		if d.lines == nil {
			d.lines = strings.Split(string(d.src), "\n")
		}
		at := pos.Line + 1 + line
		if at > len(d.lines) {
			return pos
		}
		indent := strings.Index(d.lines[at-1], strings.Split(text, "\n")[line])
		if indent < 0 { // an alias of a text that stands elsewhere
			return pos
		}
		return sallyport.Pos{Line: at, Col: 1 + indent + col}
	case line > 0 || n.Style&yaml.FoldedStyle != 0:
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		pos.Col += 1 + col
	default:
		pos.Col += col
	}
	return pos
}
