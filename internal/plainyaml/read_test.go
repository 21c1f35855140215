package plainyaml

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"golang.org/x/tools/txtar"
)

// library returns what the library makes of a source: its root node, nil if that
// is not the only one.
func library(src []byte) *yaml.Node {
	var doc, next yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(src))
	if dec.Decode(&doc) != nil || len(doc.Content) != 1 || !errors.Is(dec.Decode(&next), io.EOF) {
		return nil
	}
	return doc.Content[0]
}

// difference tells how two trees differ, "" if they do not.
func difference(got, want *yaml.Node, depth int) string {
	at := fmt.Sprintf("%d:%d", want.Line, want.Column)
	switch {
	case depth > 2*maxDepth:
		return at + ": too deep"
	case got.Kind != want.Kind || got.Style != want.Style || got.Value != want.Value || got.Anchor != want.Anchor:
		return fmt.Sprintf("%s: kind %d style %d value %q anchor %q, want %d %d %q %q", at,
			got.Kind, got.Style, got.Value, got.Anchor, want.Kind, want.Style, want.Value, want.Anchor)
	case got.Line != want.Line || got.Column != want.Column:
		return fmt.Sprintf("%s: stands at %d:%d", at, got.Line, got.Column)
	case len(got.Content) != len(want.Content):
		return fmt.Sprintf("%s: has %d nodes, want %d", at, len(got.Content), len(want.Content))
	case got.Kind == yaml.AliasNode && (got.Alias.Line != want.Alias.Line || got.Alias.Column != want.Alias.Column || got.Alias.Value != want.Alias.Value):
		return fmt.Sprintf("%s: is an alias of what stands at %d:%d, want %d:%d", at, got.Alias.Line, got.Alias.Column, want.Alias.Line, want.Alias.Column)
	}
	for i := range want.Content {
		if d := difference(got.Content[i], want.Content[i], depth+1); d != "" {
			return d
		}
	}
	return ""
}

// compare fails if Parse takes a source and makes something else of it than the
// library. It reports whether Parse took it.
func compare(t *testing.T, src []byte) bool {
	t.Helper()
	got := Parse(src)
	if got == nil {
		return false
	}
	want := library(src)
	if want == nil {
		t.Fatalf("took what the library refuses:\n%q", src)
	}
	if d := difference(got, want, 0); d != "" {
		t.Fatalf("%s in\n%q", d, src)
	}
	return true
}

var (
	more        = flag.String("corpus", "", "a directory with more YAML files to compare")
	alterations = flag.Int("alterations", 5_000, "how many altered documents to compare")
)

// corpus is files that people wrote, workflows above all, by name.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, root := range []string{"../workflow/testdata", "../cli/testdata", "../../examples", "../../.github", *more} {
		if root == "" {
			continue
		}
		err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			switch filepath.Ext(path) {
			case ".yml", ".yaml":
				files[path], err = os.ReadFile(path)
			case ".txt", ".txtar":
				var a *txtar.Archive
				if a, err = txtar.ParseFile(path); err == nil {
					for _, f := range a.Files {
						if ext := filepath.Ext(f.Name); ext == ".yml" || ext == ".yaml" {
							files[path+"/"+f.Name] = f.Data
						}
					}
				}
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if len(files) < 200 {
		t.Fatalf("only %d files", len(files))
	}
	return files
}

func TestCorpus(t *testing.T) {
	t.Parallel()
	took, valid := 0, 0
	for name, src := range corpus(t) {
		switch ok := library(src) != nil; {
		case compare(t, src):
			took++
			valid++
		case ok:
			valid++
			t.Log("refused", name)
		}
		if len(src) > 4<<10 {
			continue
		}
		for i, c := range src { // most of what is cut off is bad
			if c == '\n' {
				compare(t, src[:i])
				compare(t, src[i+1:])
			}
		}
	}
	t.Logf("took %d of %d", took, valid)
	if took < valid*9/10 {
		t.Errorf("took %d of %d files", took, valid)
	}
}

// forms are documents that Parse must take, so that it is fast for them.
var forms = []string{
	"a: b", "a: b\n", "---\na: b\n", "# c\n\n---\n# d\na: b # e\n\n# f", "- a\n- b\n", "[a, b]", "{ a: b }\n",
	"a:\nb:\n", "a:\n  b:\n    c: d\n  e: f\ng: h\n", "a:\n- b\n- c: d\n  e: f\ng: h", "a:\n  - b\n  - - c\n    - d\n  -\n  - e: f",
	"- \n-\n- a:\n  b: c\n-\n  d: e\n", "a:\n  b\n", "a: b\n  c\n\n  d\n\n\n  e # f\ng: h", "a: b#c :d e:f 'g' \"h\"\n", "a : b",
	"a: '' \nb: \"\"\nc: 'd''e'\n'f': g\n\"h\" : i", "a: 'b\n\n  c \n  d'\n", "a: \"b\n\n  c \n  d \\\n   e\\n\\\"\\x41\\u00e9\\U0001F600\"",
	"a: \"\\x41\\u00e9\\U0001F600\\0\\a\\e\\_\\N\\L\\P\\\\ \\\n   b\"", "é: ü\nab: [é, ü]\n", "a: -b", "a: ::b", "a: -1\nb: .5", "a: ?b",
	"a: |\n  b\n   c\n\n  d\nb: x", "a: |-\n  b\n\n", "a: |+\n  b\n\n\n", "a: |2\n    b\n", "a: |1-\n  b", "a: | # c\n\n  b\n", "a: |\n\n\nb: c", "a: |\n",
	"a: >\n  b\n  c\n\n  d\n   e\n  f\n", "a: >-\n\n  b\n  c\n", "a: >+\n  b\n\n", "- |\n b\n- >\n c\n", "a:\n- |\n  b\n- c", "a:\n  |\n   b\n",
	"a: [b, 'c', \"d\", [e], {f: g},]\nb: []\nc: {}", "a: [\n  b, # c\n  d\n]\ne: f", "a: {\"b\":c, 'd' : e, f: [g]}", "a: {b: c:d, e: -f}", "a: [b:c]",
	"a: &b c\nd: *b", "a: &b\n  c: d\ne: *b\nf: [*b, *b ]\ng: {h: *b}", "a: &b\n- c\nd: &b e\nf: *b", "a: &b\n- c: &b e\nf: *b", "- &a\n  b: c\n- &d e\n- *d\n- *a", "a: &b [c]\nd: &e {f: g}\nh: &i |\n  j\n",
	"a: b\n  - c\n  # d\n", "a:\n  # b\n  c: d\n # e\n  f: g\n# h\n", "a: $x\n${{ b }}: ${{ c }}\n", "a: \"b\" # c\n#d\n", "<<: a\n",
}

func TestForms(t *testing.T) {
	t.Parallel()
	for _, src := range forms {
		if library([]byte(src)) != nil && !compare(t, []byte(src)) {
			t.Errorf("refused %q", src)
		}
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	for _, src := range []string{
		"", "\n", "# a\n", "a", "'a'", "a: b\n---\nc: d", "a: b\n...\n", "%YAML 1.2\n---\na: b", "a: b\r\n", "a:\tb", "\ta: b", "a: b\t", "? a\n: b", "a: !!str b", "!!map\na: b",
		"a: *b", "a: &b [*b]", "- &a b: c", "a: [b: c]", "a: {b}", "a: {b: }", "a: [b\n c]", "\ufeffa: b", "a: \u2028", "a: \x01", "a: \xff", "a: b: c", "a: b\n c: d", "a: - b",
		"a: 'b", "a: \"b", "a: \"\\q\"", "a: \"\\ud800\"", "a: [", "a: {b: c", "a: @b", "a: `b", "a: %b", "a: b\nc", "a: 'b\n--- c'", "a: [\n--- b]", "a: |\n\tb\n", "a: |0\n b", "a: |--\n b", "a: |x\n b",
		"  a: b\nc: d", "a:\n    b: c\n  d: e", "- a\nb: c", "a: b\n- c", strings.Repeat("[", 1000) + strings.Repeat("]", 1000), strings.Repeat("- ", 1000), strings.Repeat("x", 1100) + ": a",
	} {
		if Parse([]byte(src)) != nil {
			t.Errorf("took %q", src)
		}
	}
}

// TestAltered compares what is made of documents by a few changes at random with
// what YAML gives a meaning to: most of it is nearly right.
func TestAltered(t *testing.T) {
	t.Parallel()
	sources := make([][]byte, len(forms))
	for i, src := range forms {
		sources[i] = []byte(src)
	}
	files := corpus(t)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if len(files[name]) < 2<<10 {
			sources = append(sources, files[name])
		}
	}
	pieces := []string{
		"", "", " ", "  ", "\n", "\n\n", "\n  ", ":", ": ", "- ", "-", "? ", "#", " # ", ",", "[", "]", "{", "}", "'", "\"", "''", "\\", "|", ">", "|-\n", ">+\n", "|2\n", "&a ", "*a", "!", "@", "%",
		"---", "---\n", "...", "\t", "a", "a: b", "\\\n", "\\x41", "0", "é", "\r\n", "<<", "~",
	}
	random := rand.New(rand.NewPCG(1, 2))
	took := 0
	for range *alterations {
		src := slices.Clone(sources[random.IntN(len(sources))])
		for range 1 + random.IntN(3) {
			from := random.IntN(len(src) + 1)
			to := min(len(src), from+random.IntN(3))
			src = slices.Replace(src, from, to, []byte(pieces[random.IntN(len(pieces))])...)
		}
		if compare(t, src) {
			took++
		}
	}
	t.Logf("took %d of %d", took, *alterations)
	if took < *alterations/4 { // else little was compared
		t.Errorf("took %d of %d", took, *alterations)
	}
}

// FuzzParse wants of every source that Parse takes the tree that the library
// makes of it.
func FuzzParse(f *testing.F) {
	for _, src := range forms {
		f.Add([]byte(src))
	}
	for _, src := range corpus(f) {
		if len(src) < 4<<10 {
			f.Add(src)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) < 64<<10 {
			compare(t, src)
		}
	})
}
