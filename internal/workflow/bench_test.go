package workflow

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/internal/plainyaml"
	"go.yaml.in/yaml/v3"
)

// largeWorkflow is a workflow of about 1,400 lines with what large projects
// have in theirs: matrices, conditions, expressions in many fields.
func largeWorkflow() string {
	var b strings.Builder
	b.WriteString(`name: CI
on:
  push: { branches: [main, 'releases/**'] }
  pull_request: { paths: ['**.go', '!docs/**'] }
permissions: { contents: read }
env:
  GOFLAGS: -mod=readonly
concurrency:
  group: ${{ github.workflow }}-${{ github.ref_name }}-${{ github.event.pull_request.number || github.sha }}
  cancel-in-progress: true
jobs:
`)
	for i := range 36 {
		needs := ""
		if i > 0 {
			needs = fmt.Sprintf("\n    needs: [job%d]", (i+1)/2)
		}
		fmt.Fprintf(&b, `  job%d:
    name: "Job %d | ${{ matrix.os }}"%s
    if: ${{ !cancelled() && github.ref == 'refs/heads/main' || contains(github.event.pull_request.labels.*.name, 'all') }}
    runs-on: ${{ matrix.os }}
    timeout-minutes: 20
    strategy:
      fail-fast: false
      matrix:
        os: [ubuntu-latest, ubuntu-22.04]
        go: ['1.25', '1.26']
        include:
          - os: ubuntu-latest
            race: true
    outputs:
      version: ${{ steps.version.outputs.version }}
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0
      - name: Version
        id: version
        run: |
          echo "version=${{ github.run_number }}" >> "$GITHUB_OUTPUT"
          echo "built" >> "$GITHUB_STEP_SUMMARY"
      - name: Test ${{ matrix.go }}
        if: matrix.race || success()
        shell: bash
        env:
          RACE: ${{ matrix.race && '-race' || '' }}
          TOKEN: ${{ secrets.TOKEN }}
        run: go test $RACE ./...
      - uses: actions/upload-artifact@v4
        if: always()
        with:
          name: result-${{ matrix.os }}-${{ matrix.go }}
          path: out
`, i+1, i+1, needs)
	}
	return b.String()
}

func BenchmarkParseCompile(b *testing.B) {
	src := []byte(largeWorkflow())
	b.SetBytes(int64(len(src)))
	b.ReportMetric(float64(strings.Count(string(src), "\n")), "lines")
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
	src := []byte(largeWorkflow())
	b.ReportAllocs()
	for b.Loop() {
		Parse("ci.yml", src)
	}
}

// BenchmarkPlainYAML is the floor below BenchmarkParse: reading the YAML alone.
func BenchmarkPlainYAML(b *testing.B) {
	src := []byte(largeWorkflow())
	b.ReportAllocs()
	for b.Loop() {
		if plainyaml.Parse(src) == nil {
			b.Fatal("refused")
		}
	}
}

// BenchmarkYAML is what the library takes for it.
func BenchmarkYAML(b *testing.B) {
	src := []byte(largeWorkflow())
	b.ReportAllocs()
	for b.Loop() {
		var n yaml.Node
		if err := yaml.Unmarshal(src, &n); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLint(b *testing.B) {
	src := []byte(largeWorkflow())
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		if r := Lint(LintInput{Path: "w.yml", Src: src}); len(r.Invalid) > 0 {
			b.Fatal(r.Invalid)
		}
	}
}
