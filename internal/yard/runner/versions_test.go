package runner

import (
	"strings"
	"testing"
)

func TestSatisfies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		have version
		in   string // ranges that hold it
		out  string // that do not
	}{
		{version{1, 26, 8}, "1.26|1|1.26.8|1.26.x|1.x|*|x|^1.20|^1.26.8|~1.26.0|~1|>=1.20|>=1.26.8|<2|<=1.26|<1.27.0|>1.25|1.20 - 1.26|=1.26|>= 1.20 <2|1.2 || 1.26|v1.26.8", "1.25|2|1.26.9|^1.27|^1.26.9|~1.25|>=1.27|<1.26.8|<1.26|<=1.25|>1.26|1.20 - 1.25|>1.26.8|1.26.7|^2|>=1.20 <1.26"},
		{version{0, 3, 4}, "^0.3|^0.3.1|0.x|^0|~0.3.4|>=0.3 <0.4", "^0.2|^0.4|^0.3.5|^1|~0.2"},
		{version{20, 20, 2}, "20|20.x|>=18|18 || 20|lts", "18|^18|>=21"},
	} {
		for want, list := range map[bool]string{true: c.in, false: c.out} {
			for _, r := range splitList(list) {
				if got, ok := c.have.satisfies(r); r != "lts" && (got != want || !ok) {
					t.Errorf("%s in %q = %v (%v), want %v", c.have, r, got, ok, want)
				}
			}
		}
	}
	for _, bad := range []string{"stable", "1.26rc1", "1.26.0-rc.1", "pypy3.9", ">=", "1 -", "1.2.3.4", "lts/iron", "^", "1.a", "~=3.9", "3.12-dev"} {
		if _, ok := (version{1, 26, 8}).satisfies(bad); ok {
			t.Errorf("%q is a range", bad)
		}
	}
}

func splitList(s string) []string {
	var out []string
	for start, i := 0, 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '|' && !(i > 0 && s[i-1] == ' ' || i+1 < len(s) && s[i+1] == '|' || i > 0 && s[i-1] == '|') {
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return out
}

func TestVersionFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ tool, file, content, want string }{
		{"actions/setup-go", "go.mod", "module x\n\ngo 1.22.1 // why\n\ntoolchain go1.23.0\n", "1.23.0; 1.22.1; >=1.22.1"},
		{"actions/setup-go", "go.mod", "module x\n", ""},
		{"actions/setup-go", ".tool-versions", "nodejs 20\ngolang 1.22\n", "1.22"},
		{"actions/setup-go", ".go-version", "1.22\n", "1.22"},
		{"actions/setup-node", ".nvmrc", "v20.1.0\n", "v20.1.0"},
		{"actions/setup-node", "package.json", `{"engines":{"node":">=18"}}`, ">=18"},
		{"actions/setup-node", "package.json", `{"engines":{"node":">=18"},"volta":{"node":"20.1.0"}}`, "20.1.0"},
		{"actions/setup-node", "package.json", `{"devEngines":{"runtime":{"name":"node","version":"22"}},"engines":{"node":">=18"}}`, "22"},
		{"actions/setup-node", "package.json", `{"devEngines":{"runtime":[{"name":"bun","version":"1"},{"name":"node","version":"24"}]}}`, "24"},
		{"actions/setup-node", ".tool-versions", "node 20.1.0\n", "20.1.0"},
		{"actions/setup-node", "package.json", `{`, ""},
		{"actions/setup-python", ".python-version", "3.11\n", "3.11"},
		{"actions/setup-python", "pyproject.toml", "[project]\nrequires-python = \">=3.9,<4\"\n", ">=3.9 <4"},
		{"actions/setup-python", ".python-version", "\n", ""},
	} {
		if got := strings.Join(toolchains[c.tool].inText(c.file, []byte(c.content)), "; "); got != c.want {
			t.Errorf("%s: %s: got %q, want %q", c.tool, c.file, got, c.want)
		}
	}
}

func FuzzSatisfies(f *testing.F) {
	for _, s := range []string{"^1.2 || >= 3 - 4", "1 - 2", "*", "<", "x.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { (version{1, 2, 3}).satisfies(s) })
}
