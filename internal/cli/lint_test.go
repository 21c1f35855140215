package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const lintSample = `on: [push, pull_request]
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - uses: owner/name@v1
      - uses: owner/name@v2 # sallyport: ignore[unpinned-uses] we own it
      - run: echo ${{ steps.nobody.outputs.x }}
`

// TestLintSARIF checks the output against what SARIF 2.1.0 demands
// (testdata/sarif.json: the rules of the standard for the parts that are used).
func TestLintSARIF(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(".github/workflows/a b.yml", lintSample)
	write("broken/action.yml", "name: x\n")
	var out, talk bytes.Buffer
	if code := Main([]string{"lint", "-C", dir, "--format", "sarif", "--severity", "low"}, &out, &talk); code != exitUsage {
		t.Errorf("exit code %d with an invalid file: %s", code, talk.String())
	}
	schema, err := jsonschema.NewCompiler().Compile("testdata/sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	var log sarifLog
	if err := json.Unmarshal(out.Bytes(), &log); err != nil {
		t.Fatal(err)
	}
	run := log.Runs[0]
	marks, suppressed := map[string]bool{}, 0
	for _, r := range run.Results {
		if got := run.Tool.Driver.Rules[r.RuleIndex].ID; got != r.RuleID {
			t.Errorf("the rule %d is %s, not %s", r.RuleIndex, got, r.RuleID)
		}
		if at := r.Locations[0].Physical.Artifact.URI; at != ".github/workflows/a%20b.yml" {
			t.Errorf("in %s", at)
		}
		mark := r.RuleID + r.Fingerprints["sallyport/v1"]
		if marks[mark] {
			t.Errorf("two findings of %s have one fingerprint", r.RuleID)
		}
		marks[mark] = true
		suppressed += len(r.Suppressions)
	}
	if suppressed != 1 || len(run.Results) < 3 {
		t.Errorf("%d suppressed of %d", suppressed, len(run.Results))
	}
	if n := run.Invocations[0].Notifications; run.Invocations[0].Successful || len(n) == 0 || !strings.Contains(n[0].Message.Text, "runs") {
		t.Errorf("of the invalid file: %+v", run.Invocations[0])
	}
}
