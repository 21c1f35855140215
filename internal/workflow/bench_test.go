package workflow

import (
	"bytes"
	_ "embed"
	"testing"

	"github.com/sallyport-ci/sallyport/internal/plainyaml"
	"go.yaml.in/yaml/v3"
)

// largeWorkflow is a workflow of about 1,400 lines with what large projects
// have in theirs: matrices, conditions, expressions in many fields.
//
//go:embed testdata/bench/large.yml
var largeWorkflow []byte

func BenchmarkParseCompile(b *testing.B) {
	src := largeWorkflow
	b.SetBytes(int64(len(src)))
	b.ReportMetric(float64(bytes.Count(src, []byte("\n"))), "lines")
	b.ReportAllocs()
	for b.Loop() {
		f, diags := Parse("ci.yml", src)
		if f == nil || hasErrors(diags) {
			b.Fatal(diags)
		}
		if p, diags := Compile(CompileInput{File: f, Event: Event{Name: "push"}, ReadFile: readFrom(nil)}); p == nil {
			b.Fatal(diags)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	src := largeWorkflow
	b.ReportAllocs()
	for b.Loop() {
		Parse("ci.yml", src)
	}
}

// BenchmarkPlainYAML is the floor below BenchmarkParse: reading the YAML alone.
func BenchmarkPlainYAML(b *testing.B) {
	src := largeWorkflow
	b.ReportAllocs()
	for b.Loop() {
		if plainyaml.Parse(src) == nil {
			b.Fatal("refused")
		}
	}
}

// BenchmarkYAML is what the library takes for it.
func BenchmarkYAML(b *testing.B) {
	src := largeWorkflow
	b.ReportAllocs()
	for b.Loop() {
		var n yaml.Node
		if err := yaml.Unmarshal(src, &n); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLint(b *testing.B) {
	src := largeWorkflow
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		if r := Lint(LintInput{Path: "w.yml", Src: src}); len(r.Invalid) > 0 {
			b.Fatal(r.Invalid)
		}
	}
}
