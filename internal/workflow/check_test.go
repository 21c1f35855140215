package workflow

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A corpus file holds cases. Each begins with "=== NAME", or "=== NAME @FORM",
// and ends with what Check says: "! LINE:COL TEXT" for an error that contains
// the text, "~ LINE:COL TEXT" for a warning; nothing else may be said. The form
// says what the case is the body of, and places count in the body.
//
//	@on       the events below on
//	@job      a job that has steps
//	@bare     a job that has nothing
//	@step     the steps of a job
//	@action   an action's metadata file
//	@runs     the steps of a composite action
//	@tree     files, each after "-- PATH --"; the first is checked
type corpusCase struct {
	name, form, body string
	want             []string
}

// forms are what stands above a body, and how far it is indented.
var forms = map[string]struct {
	above, below string
	indent       int
}{
	"":       {},
	"tree":   {},
	"action": {},
	"on":     {"on:\n", "jobs: { a: { runs-on: x, steps: [{ run: echo }] } }\n", 2},
	"job":    {"on: push\njobs:\n  a:\n    runs-on: x\n    steps: [{ run: echo }]\n", "", 4},
	"bare":   {"on: push\njobs:\n  a:\n", "", 4},
	"step":   {"on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n", "", 6},
	"runs":   {"name: n\ndescription: d\nruns:\n  using: composite\n  steps:\n", "", 4},
}

func readCorpus(t testing.TB, file string) []corpusCase {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []corpusCase
	for line := range strings.Lines(string(src)) {
		switch {
		case strings.HasPrefix(line, "=== "):
			name, form, _ := strings.Cut(strings.TrimSpace(line[4:]), " @")
			if _, ok := forms[form]; !ok {
				t.Fatalf("%s: there is no form @%s", file, form)
			}
			out = append(out, corpusCase{name: name, form: form})
		case len(out) == 0:
		case strings.HasPrefix(line, "! ") || strings.HasPrefix(line, "~ "):
			c := &out[len(out)-1]
			c.want = append(c.want, strings.TrimSuffix(line, "\n"))
		default:
			out[len(out)-1].body += line
		}
	}
	return out
}

// check runs a case and returns what is said, with places in the body.
func (c corpusCase) check() []string {
	form := forms[c.form]
	path, files := ".github/workflows/w.yml", map[string]string{}
	src := c.body
	switch c.form {
	case "tree":
		path, files = splitTree(c.body)
		src = files[path]
	case "action", "runs":
		path = "act/action.yml"
	}
	if form.indent > 0 {
		var b strings.Builder
		b.WriteString(form.above)
		for line := range strings.Lines(c.body) {
			b.WriteString(strings.Repeat(" ", form.indent) + line)
		}
		src = b.String() + form.below
	}
	var out []string
	for _, d := range Check(CheckInput{Path: path, Src: []byte(src), ReadFile: readFrom(files)}) {
		mark, file := "!", ""
		if d.Severity == severityWarning {
			mark = "~"
		}
		if d.File != path {
			file = d.File + ":"
		}
		line, col := d.Pos.Line-strings.Count(form.above, "\n"), d.Pos.Col-form.indent
		out = append(out, fmt.Sprintf("%s %s%d:%d %s", mark, file, line, col, d.Message))
	}
	return out
}

func splitTree(body string) (first string, files map[string]string) {
	files = map[string]string{}
	at := ""
	for line := range strings.Lines(body) {
		if name, ok := strings.CutPrefix(line, "-- "); ok {
			at = strings.TrimSuffix(name, " --\n")
			if first == "" {
				first = at
			}
			continue
		}
		files[at] += line
	}
	return first, files
}

func TestCheckCorpus(t *testing.T) {
	t.Parallel()
	total := 0
	for _, file := range inputs(t, "testdata/check/*.txt") {
		cases := readCorpus(t, file)
		total += len(cases)
		for _, c := range cases {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				got := c.check()
				rest := slices.Clone(got)
				for _, want := range c.want {
					place, text, _ := strings.Cut(want[2:], " ")
					i := slices.IndexFunc(rest, func(g string) bool {
						return strings.HasPrefix(g, want[:2]+place+" ") && strings.Contains(g, text)
					})
					if i < 0 {
						t.Errorf("not said: %s\nsaid:\n%s\nof:\n%s", want, strings.Join(got, "\n"), c.body)
						continue
					}
					rest = slices.Delete(rest, i, i+1)
				}
				if len(rest) > 0 {
					t.Errorf("said beyond what is expected:\n%s\nof:\n%s", strings.Join(rest, "\n"), c.body)
				}
			})
		}
	}
	if total < 300 {
		t.Errorf("the corpus has %d cases", total)
	}
}

// availability is GitHub's table of contexts ("Context availability") and its
// published schema where that allows more: the field, what is available there
// besides github, inputs and vars, and a workflow with % in the field's place.
var availability = []struct{ field, contexts, src string }{
	{"run-name", "", "run-name: %\non: push\njobs: { a: { runs-on: x, steps: [{ run: x }] } }\n"},
	{"concurrency", "", "on: push\nconcurrency: %\njobs: { a: { runs-on: x, steps: [{ run: x }] } }\n"},
	{"env", "secrets", "on: push\nenv: { A: % }\njobs: { a: { runs-on: x, steps: [{ run: x }] } }\n"},
	{"inputs default", "", "on: { workflow_call: { inputs: { i: { type: string, default: % } } } }\njobs: { a: { runs-on: x, steps: [{ run: x }] } }\n"},
	{"outputs value", "jobs", "on: { workflow_call: { outputs: { o: { value: % } } } }\njobs: { a: { runs-on: x, steps: [{ run: x }] } }\n"},
	{"job name", "needs strategy matrix", jobWith("name: %")},
	{"job if", "needs", jobWith("if: %")},
	{"runs-on", "needs strategy matrix", "on: push\njobs: { a: { runs-on: %, steps: [{ run: x }] } }\n"},
	{"runs-on labels", "needs strategy matrix", "on: push\njobs: { a: { runs-on: { group: g, labels: [%] }, steps: [{ run: x }] } }\n"},
	{"environment", "needs strategy matrix", jobWith("environment: %")},
	{"environment name", "needs strategy matrix", jobWith("environment: { name: % }")},
	{"environment url", "needs strategy matrix job runner env steps", jobWith("environment: { name: n, url: % }")},
	{"job concurrency", "needs strategy matrix", jobWith("concurrency: { group: %, cancel-in-progress: true }")},
	{"job env", "needs strategy matrix secrets", jobWith("env: { A: % }")},
	{"job env whole", "needs strategy matrix secrets", jobWith("env: %")},
	{"job outputs", "needs strategy matrix job runner env secrets steps", jobWith("outputs: { o: % }")},
	{"job defaults", "needs strategy matrix env", jobWith("defaults: { run: { shell: %, working-directory: % } }")},
	{"timeout", "needs strategy matrix", jobWith("timeout-minutes: %")},
	{"cancel timeout", "needs strategy matrix", jobWith("cancel-timeout-minutes: %")},
	{"job continue", "needs strategy matrix", jobWith("continue-on-error: %")},
	{"strategy", "needs", jobWith("strategy: { fail-fast: %, max-parallel: %, matrix: { a: [%], b: %, include: % } }")},
	{"matrix", "needs", jobWith("strategy: { matrix: % }")},
	{"container", "needs strategy matrix", jobWith("container: %")},
	{"container image", "needs strategy matrix", jobWith("container: { image: %, options: %, ports: [%], volumes: [%] }")},
	{"container env", "needs strategy matrix job runner env secrets steps", jobWith("container: { image: i, env: { A: % } }")},
	{"container credentials", "needs strategy matrix env secrets", jobWith("container: { image: i, credentials: { username: %, password: % } }")},
	{"services", "needs strategy matrix", jobWith("services: %")},
	{"service image", "needs strategy matrix", jobWith("services: { s: { image: %, ports: [%] }, t: % }")},
	{"service env", "needs strategy matrix job runner env secrets steps", jobWith("services: { s: { image: i, env: { A: % } } }")},
	{"service credentials", "needs strategy matrix env secrets", jobWith("services: { s: { image: i, credentials: { username: %, password: % } } }")},
	{"with of a call", "needs strategy matrix", "on: push\njobs: { a: { uses: o/r/.github/workflows/w.yml@v1, with: { i: % } } }\n"},
	{"secrets of a call", "needs strategy matrix secrets", "on: push\njobs: { a: { uses: o/r/.github/workflows/w.yml@v1, secrets: { s: % } } }\n"},
	{"step name", "needs strategy matrix job runner env secrets steps", stepWith("name: %")},
	{"step if", "needs strategy matrix job runner env steps", stepWith("if: %")},
	{"step env", "needs strategy matrix job runner env secrets steps", stepWith("env: { A: % }")},
	{"step run", "needs strategy matrix job runner env secrets steps", "on: push\njobs: { a: { runs-on: x, steps: [{ run: % }] } }\n"},
	{"step with", "needs strategy matrix job runner env secrets steps", "on: push\njobs: { a: { runs-on: x, steps: [{ uses: o/r@v1, with: { i: % } }] } }\n"},
	{"step others", "needs strategy matrix job runner env secrets steps", stepWith("working-directory: %, continue-on-error: %, timeout-minutes: %")},
}

func jobWith(field string) string {
	return "on: push\njobs: { a: { runs-on: x, " + field + ", steps: [{ run: x }] } }\n"
}

func stepWith(field string) string {
	return "on: push\njobs: { a: { runs-on: x, steps: [{ run: x, " + field + " }] } }\n"
}

func TestContextAvailability(t *testing.T) {
	t.Parallel()
	for _, row := range availability {
		available := append(strings.Fields(row.contexts), "github", "inputs", "vars")
		for _, context := range contextNames {
			src := strings.ReplaceAll(row.src, "%", "'${{ "+context+".x }}'")
			diags := Check(CheckInput{Path: "w.yml", Src: []byte(src)})
			if got, want := hasErrors(diags), !slices.Contains(available, context); got != want {
				t.Errorf("%s in %s: refused %v, want %v: %v", context, row.field, got, want, diags)
			}
		}
		for _, call := range []string{"always()", "hashFiles('x')"} {
			src := strings.ReplaceAll(row.src, "%", "\"${{ "+call+" }}\"")
			diags := Check(CheckInput{Path: "w.yml", Src: []byte(src)})
			want := strings.HasPrefix(call, "always") && !strings.HasSuffix(row.field, " if") ||
				strings.HasPrefix(call, "hashFiles") && !strings.HasPrefix(row.field, "step")
			if got := hasErrors(diags); got != want {
				t.Errorf("%s in %s: refused %v, want %v: %v", call, row.field, got, want, diags)
			}
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, file := range inputs(f, "testdata/check/*.txt") {
		for _, c := range readCorpus(f, file) {
			f.Add([]byte(c.body), c.form == "action")
		}
	}
	f.Fuzz(func(t *testing.T, src []byte, action bool) {
		path := ".github/workflows/w.yml"
		if action {
			path = "action.yml"
		}
		read := func(string) ([]byte, error) { return src, nil } // everything uses itself
		checkDiagnostics(t, Check(CheckInput{Path: path, Src: src, ReadFile: read}))
		checkDiagnostics(t, Check(CheckInput{Path: path, Src: src}))
	})
}
