package workflow

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	sallyport "github.com/sallyport-ci/sallyport"
)

// lintCase is a file of testdata/lint: for one rule, a file in which it finds
// something (bad.yml, or bad/action.yml), what it finds (want), and the same done
// well (good.yml). Other sections are files of the repository around them.
type lintCase struct {
	archive   *txtar.Archive
	bad, good string
	want      string
	files     map[string][]byte
}

func readLintCase(t *testing.T, file string) lintCase {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := lintCase{archive: a, files: map[string][]byte{}}
	for _, f := range a.Files {
		c.files[f.Name] = f.Data
		switch base, _, _ := strings.Cut(strings.TrimSuffix(f.Name, filepath.Ext(f.Name)), "/"); base {
		case "bad":
			c.bad = f.Name
		case "good":
			c.good = f.Name
		case "want":
			c.want = string(f.Data)
		}
	}
	return c
}

func (c lintCase) lint(t *testing.T, name string) []Finding {
	t.Helper()
	r := Lint(LintInput{Path: name, Src: c.files[name], ReadFile: func(path string) ([]byte, error) {
		if src, ok := c.files[path]; ok {
			return src, nil
		}
		return nil, sallyport.Errorf(sallyport.CodeNotFound, "there is no %s", path)
	}})
	if len(r.Invalid) > 0 {
		t.Fatalf("%s is invalid: %v", name, r.Invalid)
	}
	return r.Findings
}

func printFindings(found []Finding, rule string) string {
	var b strings.Builder
	for _, f := range found {
		if f.Rule == rule && f.Waived == "" {
			fmt.Fprintf(&b, "%d:%d: %s: %s\n", f.Pos.Line, f.Pos.Col, f.Severity, f.Message)
		}
	}
	return b.String()
}

func TestLintRules(t *testing.T) {
	t.Parallel()
	for _, rule := range Rules() {
		if rule.ID == ruleExpiredWaiver.ID { // of the configuration: TestLintConfig
			continue
		}
		t.Run(rule.ID, func(t *testing.T) {
			t.Parallel()
			file := "testdata/lint/" + rule.ID + ".txt"
			c := readLintCase(t, file)
			got := printFindings(c.lint(t, c.bad), rule.ID)
			if *update {
				for i := range c.archive.Files {
					if c.archive.Files[i].Name == "want" {
						c.archive.Files[i].Data = []byte(got)
					}
				}
				if err := os.WriteFile(file, txtar.Format(c.archive), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got == "" || got != c.want {
				t.Errorf("bad: got\n%s\nwant\n%s", got, c.want)
			}
			if got := printFindings(c.lint(t, c.good), rule.ID); got != "" {
				t.Errorf("good: got\n%s", got)
			}
		})
	}
}

func TestLintRuleTexts(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range Rules() {
		if seen[r.ID] || r.ID == "" || r.ID != strings.ToLower(r.ID) || strings.ContainsAny(r.ID, " _") {
			t.Errorf("id %q", r.ID)
		}
		seen[r.ID] = true
		for what, text := range map[string]string{"title": r.Title, "why": r.Why, "mend": r.Mend} {
			if text == "" || strings.HasSuffix(text, ".") != (what == "why") || strings.Contains(text, "\n") {
				t.Errorf("%s: the %s is %q", r.ID, what, text)
			}
		}
		if !r.Severity.AtLeast(SeverityLow) || r.Confidence == "" {
			t.Errorf("%s: severity %q, confidence %q", r.ID, r.Severity, r.Confidence)
		}
	}
	files, err := filepath.Glob("testdata/lint/*.txt")
	if err != nil || len(files) != len(seen)-1 {
		t.Errorf("%d files for %d rules", len(files), len(seen)) // all but expired-waiver
	}
}

// Needs are resolved for the whole workflow, so what is wrong with them is an
// error of the file and no finding.
func TestLintInvalid(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"on: push\njobs:\n  a:\n    needs: nobody\n    runs-on: x\n    steps: [{run: x}]\n":                                 `4:12: error: job "a" needs "nobody"`,
		"on: push\njobs:\n  a: {needs: b, runs-on: x, steps: [{run: x}]}\n  b: {needs: a, runs-on: x, steps: [{run: x}]}\n": "in a circle",
		"on: push\njobs:\n  a: {runs-on: x, steps: [{run: x, if: 'secrets.A'}]}\n":                                          `"secrets" is not available`,
		"on: push\njobs: {}\n": "has no job",
	} {
		r := Lint(LintInput{Path: "w.yml", Src: []byte(src)})
		if got := printDiagnostics(r.Invalid); !strings.Contains(got, want) || len(r.Findings) > 0 {
			t.Errorf("%s: got %q and %d findings, want %q", src, got, len(r.Findings), want)
		}
	}
}

// TestLintFingerprints moves a finding down and wants its mark to stay.
func TestLintFingerprints(t *testing.T) {
	t.Parallel()
	src := "name: x\non: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: a/b@v1\n      - uses: a/b@v1\n"
	marks := func(src string) map[string]sallyport.Pos {
		out := map[string]sallyport.Pos{}
		for _, f := range Lint(LintInput{Path: "w.yml", Src: []byte(src)}).Findings {
			if f.Rule == ruleUnpinnedUses.ID {
				out[f.Fingerprint] = f.Pos
			}
		}
		return out
	}
	before, after := marks(src), marks("# moved\n\n"+strings.ReplaceAll(src, "    steps:", "    env: {A: b}\n    steps:"))
	if len(before) != 2 || len(after) != 2 {
		t.Fatalf("before %v, after %v", before, after)
	}
	for mark, pos := range before {
		if after[mark].Line != pos.Line+3 {
			t.Errorf("%s was in line %d and is at %v", mark, pos.Line, after[mark])
		}
	}
}

func TestLintLocked(t *testing.T) {
	t.Parallel()
	src := []byte("name: x\non: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: a/b@v1\n      - uses: c/d@v2\n")
	r := Lint(LintInput{Path: "w.yml", Src: src, Locked: func(uses string) bool { return uses == "a/b@v1" }})
	if got, want := printFindings(r.Findings, ruleUnpinnedUses.ID), "8:15: medium: the action c/d is at \"v2\", which can be moved\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLintIgnore(t *testing.T) {
	t.Parallel()
	src := `name: x
on: push
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - uses: a/b@v1 # sallyport: ignore[unpinned-uses] the vendor is us
      # sallyport: ignore[unpinned-uses, template-injection] both are known

      # another comment
      - uses: a/b@v2
      - run: |
          # sallyport: ignore[template-injection] tags are made by the release job
          echo ${{ github.ref_name }}
      - uses: a/b@v3
`
	var waived, standing []string
	for _, f := range Lint(LintInput{Path: "w.yml", Src: []byte(src)}).Findings {
		if f.Rule != ruleUnpinnedUses.ID && f.Rule != ruleTemplateInjection.ID && f.Rule != ruleIgnoreComment.ID {
			continue
		}
		if line := fmt.Sprintf("%d %s", f.Pos.Line, f.Rule); f.Waived != "" {
			waived = append(waived, line+": "+f.Waived)
		} else {
			standing = append(standing, line)
		}
	}
	if got, want := strings.Join(waived, "\n"), "7 unpinned-uses: the vendor is us\n11 unpinned-uses: both are known\n14 template-injection: tags are made by the release job"; got != want {
		t.Errorf("waived:\n%s\nwant\n%s", got, want)
	}
	if got, want := strings.Join(standing, "\n"), "8 ignore-comment\n15 unpinned-uses"; got != want {
		t.Errorf("standing:\n%s\nwant\n%s", got, want)
	}
}

func TestLintConfig(t *testing.T) {
	t.Parallel()
	c, diags := ParseLintConfig([]byte(`labels: [gpu]
waivers:
  - rule: unpinned-uses
    file: .github/workflows/*.yml
    until: 2027-01-31
    reason: moved only for releases
`))
	if len(diags) > 0 || len(c.Labels) != 1 {
		t.Fatalf("%+v %v", c, diags)
	}
	day := func(text string) time.Time {
		d, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	found := func() []Finding {
		return []Finding{
			{Rule: "unpinned-uses", File: ".github/workflows/a.yml"}, {Rule: "unpinned-uses", File: "x/action.yml"},
			{Rule: "env-name", File: ".github/workflows/a.yml"},
		}
	}
	f := found()
	c.Waive(f, day("2027-01-31T23:59:59Z"))
	if f[0].Waived != "moved only for releases (until 2027-01-31)" || f[1].Waived != "" || f[2].Waived != "" {
		t.Errorf("on the last day: %+v", f)
	}
	if len(c.Expired(day("2027-01-31T23:59:59Z"))) != 0 {
		t.Error("expired on its last day")
	}
	f = found()
	c.Waive(f, day("2027-02-01T00:00:00Z"))
	if f[0].Waived != "" {
		t.Errorf("after the last day: %+v", f[0])
	}
	if e := c.Expired(day("2027-02-01T00:00:00Z")); len(e) != 1 || e[0].Rule != ruleExpiredWaiver.ID || e[0].Pos.Line != 3 || e[0].File != LintConfigFile {
		t.Errorf("expired: %+v", e)
	}
	for src, want := range map[string]string{
		"waivers: [{rule: unpinned-use, until: 2027-01-01, reason: x}]":           `did you mean "unpinned-uses"`,
		"waivers: [{rule: unpinned-uses, until: soon, reason: x}]":                "is not a day",
		"waivers: [{rule: unpinned-uses, until: 2027-01-01}]":                     `lacks the key "reason"`,
		"waivers: [{rule: unpinned-uses, reason: x}]":                             `lacks the key "until"`,
		"waivers: [{rule: unpinned-uses, until: 2027-01-01, reason: x, who: me}]": `unknown key "who"`,
		"waivers: {}": "must be a sequence",
		"waiver: []":  `did you mean "waivers"`,
		"":            "empty",
		"waivers: [{rule: env-name, file: '[', until: 2027-01-01, reason: x}]": "invalid pattern",
	} {
		if _, diags := ParseLintConfig([]byte(src)); !strings.Contains(printDiagnostics(diags), want) {
			t.Errorf("%s: %s, want %q", src, printDiagnostics(diags), want)
		}
	}
}

// FuzzLint wants no panic and no finding outside of the file, whatever is parsed.
func FuzzLint(f *testing.F) {
	for _, pattern := range []string{"testdata/parse/ok/*.yml", "testdata/lint/*.txt"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src, false)
			for _, part := range txtar.Parse(src).Files {
				f.Add(part.Data, strings.HasSuffix(part.Name, "action.yml"))
			}
		}
	}
	f.Add([]byte("\r\r\ron: push\njobs:\n A0:\n    runs-on: 0\n    steps: [{run}]"), false)
	f.Fuzz(func(t *testing.T, src []byte, action bool) {
		name := "w.yml"
		if action {
			name = "action.yml"
		}
		r := Lint(LintInput{Path: name, Src: src, ReadFile: func(string) ([]byte, error) { return src, nil }})
		lines := len(yamlLines(string(src)))
		for _, x := range r.Findings {
			if x.Pos.Line < 1 || x.Pos.Line > lines || x.Pos.Col < 1 || x.Message == "" || x.Fingerprint == "" {
				t.Errorf("%+v in %d lines", x, lines)
			}
		}
		_, _ = ParseLintConfig(src)
	})
}

// TestLintDocs keeps the guide's list of rules the same as the table.
func TestLintDocs(t *testing.T) {
	t.Parallel()
	const page, begin, end = "../../docs/guide/lint.md", "-update -->\n", "<!-- end -->"
	src, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(src), begin)
	got, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatal("the page has no place for the rules")
	}
	var want strings.Builder
	for _, r := range Rules() {
		fmt.Fprintf(&want, "### %s\n%s (%s, confidence %s). %s\n\nMend: %s.\n\n", r.ID, strings.ToUpper(r.Title[:1])+r.Title[1:], r.Severity, r.Confidence, r.Why, r.Mend)
	}
	if got == want.String() {
		return
	}
	if !*update {
		t.Errorf("the list of rules in %s is not that of the table: run this test with -update", page)
		return
	}
	if err := os.WriteFile(page, []byte(head+begin+want.String()+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestLintBounds gives rules what could make them look at everything again for
// everything, and wants them to end. A rule without its bound needs hours.
func TestLintBounds(t *testing.T) {
	t.Parallel()
	head := "on: [issue_comment, pull_request_target]\njobs:\n  a:\n    runs-on: x\n    steps:\n"
	var outputs, aliases, envs, paths strings.Builder
	outputs.WriteString(head)
	for i := range 900 {
		fmt.Fprintf(&outputs, "      - {id: s%d, run: 'echo x=%s >> $GITHUB_OUTPUT'}\n", i, strings.Repeat(fmt.Sprintf("${{ steps.s%d.outputs.x }}", max(0, i-1)), 30))
	}
	aliases.WriteString(head + "      - run: &big |\n" + strings.Repeat("          echo ${{ github.head_ref }} >> $GITHUB_ENV\n", 8000))
	aliases.WriteString(strings.Repeat("      - run: *big\n", 900))
	envs.WriteString("env:\n")
	for i := range 9000 {
		fmt.Fprintf(&envs, "  V%d: ${{ github.head_ref }}\n", i)
	}
	envs.WriteString(head + strings.Repeat("      - run: |\n"+strings.Repeat("          echo $A >> $GITHUB_ENV; ${{ env.V8999 }} ${{ env.none }}\n", 300), 30))
	paths.WriteString(head + "      - {uses: actions/checkout@v4, with: {path: x}}\n      - {uses: actions/upload-artifact@v3, with: {path: &big 'y" + strings.Repeat("\n\n          y", 200) + "'}}\n")
	for range 450 {
		paths.WriteString("      - {uses: actions/checkout@v4, with: {path: x}}\n      - {uses: actions/upload-artifact@v3, with: {path: *big}}\n")
	}
	for name, src := range map[string]string{"outputs": outputs.String(), "aliases": aliases.String(), "envs": envs.String(), "paths": paths.String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Lint(LintInput{Path: "w.yml", Src: []byte(src)})
			if name == "aliases" {
				if got := printDiagnostics(r.Invalid); !strings.Contains(got, "once its aliases are expanded") {
					t.Errorf("got %q", got)
				}
				return
			}
			if len(r.Invalid) > 0 || len(r.Findings) == 0 || len(r.Findings) > maxFindings {
				t.Errorf("%d findings, %v", len(r.Findings), r.Invalid)
			}
		})
	}
}
