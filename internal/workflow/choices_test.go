package workflow

import (
	"strings"
	"testing"
)

// TestCompileChoices makes no plan of a workflow in which anyone would choose what runs.
func TestCompileChoices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ job, want string }{
		"runner":      {"{ runs-on: '${{ github.head_ref }}', steps: [{ run: make }] }", `the runner of job "a" is chosen by text that anyone can write`},
		"environment": {"{ runs-on: x, environment: '${{ github.event.issue.title }}', steps: [{ run: make }] }", `the environment of job "a"`},
		"image":       {"{ runs-on: x, container: '${{ github.event.issue.body }}', steps: [{ run: make }] }", `the image of job "a"`},
		"shell":       {"{ runs-on: x, defaults: { run: { shell: '${{ github.event.comment.body }}' } }, steps: [{ run: make }] }", "the shell"},
		"directory":   {"{ runs-on: x, steps: [{ run: make, working-directory: '${{ github.head_ref }}' }] }", ""},
		"a choice":    {"{ runs-on: \"${{ github.head_ref == 'x' && 'y' || 'z' }}\", steps: [{ run: make }] }", ""},
		"a member":    {"{ runs-on: '${{ github.ref_name }}', steps: [{ run: make }] }", ""},
	} {
		f, diags := Parse("ci.yml", []byte("on: push\njobs:\n  a: "+c.job+"\n"))
		if hasErrors(diags) {
			t.Fatalf("%s: %v", name, diags)
		}
		plan, diags := Compile(CompileInput{File: f, Event: Event{Name: "push"}})
		if c.want == "" {
			if plan == nil {
				t.Errorf("%s: %v", name, diags)
			}
			continue
		}
		if plan != nil || len(diags) == 0 || !strings.HasPrefix(diags[0].String(), "ci.yml:3:") || !strings.Contains(diags[0].Message, c.want) {
			t.Errorf("%s: got %v, want %q", name, diags, c.want)
		}
	}
}
