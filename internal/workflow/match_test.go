package workflow

import (
	"strings"
	"testing"
)

// The patterns and names are those of GitHub's documentation, "Filter pattern
// cheat sheet", and their neighbours.
func TestPattern(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern  string
		yes, nos string // names, separated by spaces
	}{
		{"feature/*", "feature/my-branch feature/your-branch", "feature/a/b feature features/x"},
		{"feature/**", "feature/beta-a/my-branch feature/your-branch", "feature"},
		{"main", "main", "mains xmain Main"},
		{"releases/mona-the-octocat", "releases/mona-the-octocat", "releases/mona"},
		{"*", "main releases", "a/b"},
		{"**", "all/the/branches every/tag x", ""},
		{"*feature", "mona-feature feature ver-10-feature", "feature/x x/feature"},
		{"v2*", "v2 v2.0 v2.9", "v1 v2/x"},
		{"v[12].[0-9]+.[0-9]+", "v1.10.1 v2.0.0", "v3.0.0 v1.x.1 v1.10. v1..1"},
		{"*.jsx?", "page.js page.jsx", "page.jsxx page.j dir/page.js"},
		{"**.js", "index.js js/index.js src/js/app.js", "index.jsx"},
		{"docs/*", "docs/README.md docs/file.txt", "docs/a/b docs"},
		{"docs/**", "docs/README.md docs/mona/octocat.txt", "docs xdocs/a"},
		{"docs/**/*.md", "docs/README.md docs/mona/hello-world.md docs/a/markdown/file.md", "docs/x.txt xdocs/a.md"},
		{"**/docs/**", "docs/hello.md dir/docs/my-file.txt space/docs/plan/space.doc", "xdocs/a docs"},
		{"**/README.md", "README.md js/README.md a/b/README.md", "xREADME.md"},
		{"**/*src/**", "a/src/app.js my-src/code/js/app.js", "a/srcx/app.js"},
		{"**/*-post.md", "my-post.md path/their-post.md", "post.md"},
		{"**/migrate-*.sql", "migrate-10909.sql db/migrate-v1.0.sql db/sept/migrate-v1.sql", "db/xmigrate-1.sql"},
		{"[CB]at", "Cat Bat", "cat at"},
		{"[1-2]00", "100 200", "300 00"},
		{"[a-zA-Z0-9]", "a Z 5", "- ab"},
		{"a+b", "ab aaab", "b a+b"},
		{"a?b", "ab b", "aab"},
		{`a\+b`, "a+b", "ab aab"},
		{`\*`, "*", "x"},
		{"a[\\]]b", "a]b", "ab"},
		{"[a-]x", "ax -x", "bx"},
		{"a**b", "ab axb a/x/b", "a"},
		{"***", "a/b", ""},
		{"**/", "", "a"},
		{"(x)", "(x)", "x"},
		{"é*", "été", "ete"},
	} {
		for _, name := range strings.Fields(c.yes) {
			if !matchPattern(c.pattern, name) {
				t.Errorf("%q does not match %q", c.pattern, name)
			}
		}
		for _, name := range strings.Fields(c.nos) {
			if matchPattern(c.pattern, name) {
				t.Errorf("%q matches %q", c.pattern, name)
			}
		}
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	push := func(ref string, paths ...string) Event { return Event{Name: "push", Ref: ref, Changed: paths} }
	pr := func(action, base string) Event { return Event{Name: "pull_request", Action: action, BaseRef: base} }
	for name, c := range map[string]struct {
		on    string
		event Event
		want  bool
		why   string
	}{
		"plain":                 {"push", push("refs/heads/x"), true, "push"},
		"other event":           {"push", pr("opened", "main"), false, "triggered by push, not by pull_request"},
		"list":                  {"[push, pull_request]", pr("opened", "main"), true, "pull_request opened"},
		"default types":         {"pull_request", pr("labeled", "main"), false, "none of the types opened, synchronize, reopened"},
		"own types":             {"{ pull_request: { types: [labeled] } }", pr("labeled", "main"), true, ""},
		"own types, other":      {"{ pull_request: { types: labeled } }", pr("opened", "main"), false, ""},
		"base branch":           {"{ pull_request: { branches: [main] } }", pr("opened", "refs/heads/main"), true, ""},
		"other base branch":     {"{ pull_request: { branches: [main] } }", pr("opened", "dev"), false, `branch "dev"`},
		"branch":                {"{ push: { branches: [main] } }", push("refs/heads/main"), true, ""},
		"other branch":          {"{ push: { branches: [main] } }", push("refs/heads/dev"), false, ""},
		"tag with branches":     {"{ push: { branches: [main] } }", push("refs/tags/v1"), false, "tags do not trigger"},
		"branch with tags":      {"{ push: { tags: [v1] } }", push("refs/heads/v1"), false, "branches do not trigger"},
		"tag":                   {"{ push: { tags: [v*], branches: [main] } }", push("refs/tags/v1"), true, ""},
		"tag without filters":   {"push", push("refs/tags/v1"), true, ""},
		"negative":              {"{ push: { branches: ['releases/**', '!releases/**-alpha'] } }", push("refs/heads/releases/beta/3-alpha"), false, ""},
		"negative, not":         {"{ push: { branches: ['releases/**', '!releases/**-alpha'] } }", push("refs/heads/releases/10"), true, ""},
		"negative and back":     {"{ push: { branches: ['**', '!dev/**', 'dev/x'] } }", push("refs/heads/dev/x"), true, ""},
		"ignored":               {"{ push: { branches-ignore: ['dev/**'] } }", push("refs/heads/dev/x"), false, "is ignored"},
		"ignored, tag":          {"{ push: { branches-ignore: ['dev/**'] } }", push("refs/tags/v1"), false, ""},
		"path":                  {"{ push: { paths: ['**.go'] } }", push("refs/heads/x", "a.md", "b/c.go"), true, ""},
		"no path":               {"{ push: { paths: ['**.go'] } }", push("refs/heads/x", "a.md"), false, "none of the 1 changed paths"},
		"paths, tag":            {"{ push: { paths: ['**.go'] } }", push("refs/tags/v1", "a.md"), true, ""},
		"all paths ignored":     {"{ push: { paths-ignore: ['docs/**', '*.md'] } }", push("refs/heads/x", "docs/a", "b.md"), false, ""},
		"not all paths ignored": {"{ push: { paths-ignore: ['docs/**'] } }", push("refs/heads/x", "docs/a", "b.md"), true, ""},
		"too many paths":        {"{ push: { paths: ['**.go'] } }", Event{Name: "push", Ref: "refs/heads/x", ChangedMore: true}, true, ""},
		"paths, not branch":     {"{ push: { branches: [main], paths: ['**.go'] } }", push("refs/heads/x", "a.go"), false, ""},
		"schedule":              {"{ schedule: [{ cron: '0 0 * * *' }] }", push("refs/heads/x"), false, "triggered by schedule"},
		"dispatch":              {"[push, workflow_dispatch]", Event{Name: "workflow_dispatch"}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, diags := Parse("w.yml", []byte("on: "+c.on+"\njobs: { a: { runs-on: x, steps: [{ run: echo }] } }"))
			if f == nil || hasErrors(diags) {
				t.Fatal(diags)
			}
			ok, why := f.Matches(c.event)
			if ok != c.want || why == "" || !strings.Contains(why, c.why) {
				t.Errorf("got %v, %q; want %v, %q", ok, why, c.want, c.why)
			}
		})
	}
}

func FuzzPattern(f *testing.F) {
	for _, p := range []string{"**/a*?", "[a-z]+", "!x", "\\", "[", "a**/**b", "**/", "+", "[]-a]"} {
		f.Add(p, "a/b/c")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		err := checkPattern(pattern)
		if matchPattern(pattern, name) && err != nil && len(pattern) <= maxPatternBytes {
			t.Errorf("malformed pattern %q matches %q", pattern, name)
		}
	})
}

func BenchmarkPatternHostile(b *testing.B) {
	pattern := strings.Repeat("a+*", 100) + "b"
	name := strings.Repeat("a", 1000)
	for b.Loop() {
		matchPattern(pattern, name)
	}
}
