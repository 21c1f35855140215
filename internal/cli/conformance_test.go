package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
	"golang.org/x/tools/txtar"
)

// The cases under testdata/runs are small repositories with what GitHub's
// documentation says of them. Each is an archive:
//
//	a sentence that says what is shown
//	-- .github/workflows/ci.yml --     and other files of the repository
//	-- args --                         of sallyport run, one a line, if any
//	-- want.yaml --                    the facts, as in wanted

// wanted are the facts of a run that a case expects; what it does not name is not looked at.
type wanted struct {
	Conclusion sallyport.Conclusion `yaml:"conclusion"` // "": the workflow is invalid
	Stderr     []string             `yaml:"stderr"`     // parts of it, such as an error with its place
	Jobs       map[string]wantedJob `yaml:"jobs"`       // by name; all there are, unless there is none
	Log        []string             `yaml:"log"`        // whole lines; "KIND: TEXT" when they are not plain output
	LogHas     []string             `yaml:"log-has"`
	NoLog      []string             `yaml:"no-log"`  // parts of lines that must not occur, scripts that the log repeats apart
	Ordered    []string             `yaml:"ordered"` // whole lines in this order
}

type wantedJob struct {
	Conclusion sallyport.Conclusion `yaml:"conclusion"`
	Outputs    map[string]string    `yaml:"outputs"` // all there are, if named
	Steps      map[string]string    `yaml:"steps"`   // by id, else name: "OUTCOME" or "OUTCOME/CONCLUSION"
	Listed     []string             `yaml:"listed"`  // the outcomes of all steps in order
}

// UnmarshalYAML takes a conclusion alone for a job of which no more is wanted.
func (w *wantedJob) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&w.Conclusion)
	}
	type plain wantedJob
	return n.Decode((*plain)(w))
}

// conformanceCase is a case as it lies in its file.
type conformanceCase struct {
	name  string // TOPIC/NAME
	want  wanted
	args  []string
	files map[string][]byte
	alone bool // it cannot share a repository with others
}

const ciFile = ".github/workflows/ci.yml"

// file is the path of the case's workflow in a repository that holds several.
func (c *conformanceCase) file() string {
	if c.alone {
		return ciFile
	}
	return ".github/workflows/" + strings.ReplaceAll(c.name, "/", "-") + ".yml"
}

// TestConformance runs the cases in real rooms, as sallyport run does. Cases that are
// one workflow and no more run many in one repository: the cost of a run is then theirs
// together.
func TestConformance(t *testing.T) {
	t.Parallel()
	needRuntime(t)
	files, err := filepath.Glob("testdata/runs/*/*.txt")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	const together = 25
	var batches [][]*conformanceCase
	var open []*conformanceCase
	for _, file := range files {
		c, err := readCase(file)
		if err != nil {
			t.Fatal(err)
		}
		if c.alone {
			batches = append(batches, []*conformanceCase{c})
		} else if open = append(open, c); len(open) == together {
			batches, open = append(batches, open), nil
		}
	}
	if len(open) > 0 {
		batches = append(batches, open)
	}
	// A run mostly waits for processes to start: more of them than processors keep those busy.
	slots := make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	said := make([]*conformanceRun, len(batches))
	var runs sync.WaitGroup
	for i, batch := range batches {
		dir := t.TempDir()
		slots <- struct{}{}
		runs.Go(func() {
			defer func() { <-slots }()
			said[i] = runCases(t, dir, batch)
		})
	}
	runs.Wait()
	for i, batch := range batches {
		for _, c := range batch {
			t.Run(c.name, func(t *testing.T) { compareRun(t, c, said[i]) })
		}
	}
}

// readCase reads a case from its archive.
func readCase(file string) (*conformanceCase, error) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(archive.Comment)) == 0 {
		return nil, fmt.Errorf("%s does not say what it shows", file)
	}
	c := &conformanceCase{name: strings.TrimSuffix(strings.TrimPrefix(file, "testdata/runs/"), ".txt"), files: map[string][]byte{}}
	known := false
	for _, f := range archive.Files {
		switch f.Name {
		case "want.yaml":
			d := yaml.NewDecoder(bytes.NewReader(f.Data))
			d.KnownFields(true)
			if err := d.Decode(&c.want); err != nil {
				return nil, fmt.Errorf("%s: want.yaml: %w", file, err)
			}
			known = true
		case "args":
			for line := range strings.Lines(string(f.Data)) {
				c.args = append(c.args, strings.TrimSpace(line))
			}
			c.alone = true
		default:
			c.files[f.Name] = f.Data
		}
	}
	if !known {
		return nil, fmt.Errorf("%s has no want.yaml", file)
	}
	c.alone = c.alone || len(c.files) != 1 || c.files[ciFile] == nil || c.want.Conclusion == "" || len(c.want.Jobs) == 0
	return c, nil
}

// conformanceRun is what a run of cases said.
type conformanceRun struct {
	code           int
	stdout, stderr string
	result         runResult
	lines          []logJSON
}

// runCases runs cases in one repository.
func runCases(t *testing.T, dir string, cases []*conformanceCase) *conformanceRun {
	args := []string{"run", "-C", dir, "--json", "--capacity", "6"}
	for _, c := range cases {
		for name, data := range c.files {
			if name == ciFile {
				name = c.file()
			}
			path := filepath.Join(dir, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Error(err)
			}
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Error(err)
			}
		}
		for _, a := range c.args {
			args = append(args, strings.ReplaceAll(a, "$REPO", dir))
		}
	}
	var stdout, stderr bytes.Buffer
	r := &conformanceRun{code: Main(args, &stdout, &stderr)}
	r.stdout, r.stderr = stdout.String(), stderr.String()
	for line := range bytes.Lines(stdout.Bytes()) {
		var l logJSON
		if err := json.Unmarshal(line, &l); err != nil {
			t.Errorf("stdout: %q: %v", line, err)
		}
		if l.Type == "log" {
			r.lines = append(r.lines, l)
		} else if err := json.Unmarshal(line, &r.result); err != nil {
			t.Errorf("stdout: %q: %v", line, err)
		}
	}
	return r
}

// of returns what the run said of one case.
func (r *conformanceRun) of(c *conformanceCase) (jobs []jobResult, lines []logJSON) {
	if c.alone {
		return r.result.Jobs, r.lines
	}
	for _, j := range r.result.Jobs {
		if j.Workflow == c.file() {
			jobs = append(jobs, j)
		}
	}
	for _, l := range r.lines {
		if l.Workflow == c.file() {
			lines = append(lines, l)
		}
	}
	return jobs, lines
}

// compareRun compares what the command said of a case with what is wanted.
func compareRun(t *testing.T, c *conformanceCase, r *conformanceRun) {
	want := c.want
	jobs, lines := r.of(c)
	defer func() {
		if t.Failed() {
			var b strings.Builder
			for _, l := range lines {
				fmt.Fprintf(&b, "%s %d %s|%s\n", l.Job, l.Step, l.Kind, l.Text)
			}
			t.Logf("jobs: %+v\nlog:\n%s\nstderr:\n%s", jobs, b.String(), r.stderr)
		}
	}()
	if c.alone {
		exit := map[sallyport.Conclusion]int{"success": exitOK, "": exitUsage}
		code, known := exit[want.Conclusion]
		if !known {
			code = exitFailed
		}
		if r.code != code {
			t.Errorf("exit code %d, want %d", r.code, code)
		}
		if r.result.Conclusion != want.Conclusion {
			t.Errorf("conclusion %q, want %q", r.result.Conclusion, want.Conclusion)
		}
	}
	for _, part := range want.Stderr {
		if !strings.Contains(r.stderr, part) {
			t.Errorf("stderr lacks %q", part)
		}
	}
	compareJobs(t, want.Jobs, jobs)
	compareLog(t, want, lines)
}

func compareJobs(t *testing.T, want map[string]wantedJob, got []jobResult) {
	if want == nil {
		return
	}
	for _, j := range got {
		if _, ok := want[j.Name]; !ok {
			t.Errorf("there is a job %q, %s", j.Name, j.Conclusion)
		}
	}
	for name, w := range want {
		i := slices.IndexFunc(got, func(j jobResult) bool { return j.Name == name })
		if i < 0 {
			t.Errorf("there is no job %q", name)
			continue
		}
		j := got[i]
		if j.Conclusion != w.Conclusion {
			t.Errorf("job %q: conclusion %s (%s), want %s", name, j.Conclusion, j.Cause, w.Conclusion)
		}
		if w.Outputs != nil && fmt.Sprint(j.Outputs) != fmt.Sprint(w.Outputs) {
			t.Errorf("job %q: outputs %q, want %q", name, j.Outputs, w.Outputs)
		}
		var listed []string
		steps := map[string]string{}
		for _, s := range j.Steps {
			said := string(s.Outcome)
			if s.Conclusion != s.Outcome {
				said += "/" + string(s.Conclusion)
			}
			listed = append(listed, said)
			steps[s.Name] = said
			if s.ID != "" {
				steps[s.ID] = said
			}
		}
		if w.Listed != nil && !slices.Equal(listed, w.Listed) {
			t.Errorf("job %q: steps %q, want %q", name, listed, w.Listed)
		}
		for id, said := range w.Steps {
			if steps[id] != said {
				t.Errorf("job %q: step %q: %q, want %q", name, id, steps[id], said)
			}
		}
	}
}

func compareLog(t *testing.T, want wanted, lines []logJSON) {
	var all []string
	for _, l := range lines {
		switch l.Kind {
		case sallyport.LogCommand, sallyport.LogEndGroup, sallyport.LogSystem:
			continue
		case sallyport.LogGroup:
			if strings.HasPrefix(l.Text, "Run ") {
				continue
			}
		}
		text := l.Text
		if l.Kind != sallyport.LogOutput {
			text = string(l.Kind) + ": " + text
		}
		all = append(all, text)
	}
	for _, line := range want.Log {
		if !slices.Contains(all, line) {
			t.Errorf("the log lacks the line %q", line)
		}
	}
	joined := strings.Join(all, "\n")
	for _, part := range want.LogHas {
		if !strings.Contains(joined, part) {
			t.Errorf("the log lacks %q", part)
		}
	}
	for _, part := range want.NoLog {
		if strings.Contains(joined, part) {
			t.Errorf("the log holds %q", part)
		}
	}
	at := 0
	for _, line := range want.Ordered {
		i := slices.Index(all[at:], line)
		if i < 0 {
			t.Errorf("the log lacks the line %q after those before it", line)
			return
		}
		at += i + 1
	}
}
