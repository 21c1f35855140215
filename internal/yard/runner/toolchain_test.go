package runner

import (
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

// TestSetUp sets up tools that are scripts of the test.
func TestSetUp(t *testing.T) {
	t.Parallel()
	const tools = "- run: |\n    mkdir t; printf '#!/bin/sh\\necho go version go1.26.8 linux/amd64\\n' > t/go; printf '#!/bin/sh\\necho v20.20.2\\n' > t/node\n" +
		"    printf '#!/bin/sh\\necho Python 3.11.7\\n' > t/python3; printf '#!/bin/sh\\nexit 1\\n' > t/broken; chmod +x t/*\n" +
		"    echo $PWD/t >> $GITHUB_PATH; printf 'go 1.20\\n' > go.mod; echo lts/iron > .nvmrc\n"
	for _, c := range []struct{ name, uses, with, has, fails string }{
		{"go", "setup-go@v5", "{ go-version: '1.26', cache: true }", "Go 1.26.8 of this host is used.", ""},
		{"go of the host", "setup-go@v5", "{}", "Go 1.26.8", ""},
		{"stable go", "setup-go@v5", "{ go-version: stable }", "Go 1.26.8", ""},
		{"another go", "setup-go@v5", "{ go-version: '1.22' }", "sallyport tools add go VERSION FILE --sha256 DIGEST", "input go-version asks for Go 1.22, and this runner has 1.26.8 (this host)"},
		{"old stable go", "setup-go@v5", "{ go-version: oldstable }", "", "is not one that this runner can compare"},
		{"go of a file", "setup-go@v5", "{ go-version-file: go.mod }", "Go 1.26.8", ""},
		{"no such file", "setup-go@v5", "{ go-version-file: none/go.mod }", "check out the repository first", "cannot be read"},
		{"a file elsewhere", "setup-go@v5", "{ go-version-file: /etc/passwd }", "", "not beneath the workspace"},
		{"node", "setup-node@v4", "{ node-version: 20, registry-url: x }", "Node.js 20.20.2", ""},
		{"node lts", "setup-node@v4", "{ node-version: 'lts/*' }", "Node.js 20.20.2", ""},
		{"node by a name", "setup-node@v4", "{ node-version-file: .nvmrc }", "", "is not one that this runner can compare"},
		{"python", "setup-python@v5", "{ python-version: 3.x }", "Python 3.11.7", ""},
		{"number that lost its zero", "setup-python@v5", "{ python-version: 3.10 }", "", "asks for Python 3.1, and this runner has 3.11.7 (this host)"},
		{"several pythons", "setup-python@v5", "{ python-version: \"3.11\\n3.12\" }", "", "names several versions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := trial{yaml: steps(tools + "- { id: s, uses: actions/" + c.uses + ", with: " + c.with + " }\n" +
				"- run: echo '${{ steps.s.outputs.go-version }}${{ steps.s.outputs.node-version }}${{ steps.s.outputs.python-version }}'; command -v python || echo none\n")}.try(t)
			if c.fails != "" {
				if e.Conclusion != sallyport.Failure || !strings.Contains(e.Cause, c.fails) || !strings.Contains(e.all(), c.has) {
					t.Errorf("%s: %q\n%s", e.Conclusion, e.Cause, e.all())
				}
				return
			}
			want := map[string]string{"setup-go": "1.26.8\n", "setup-node": "v20.20.2\n", "setup-python": "3.11.7\n"}[strings.Split(c.uses, "@")[0]]
			if e.Conclusion != sallyport.Success || !strings.Contains(e.all(), c.has) || !strings.Contains(e.text(), want) {
				t.Errorf("%s: %q\n%s", e.Conclusion, e.Cause, e.all())
			}
		})
	}
}

func TestSetUpWithoutTool(t *testing.T) {
	t.Parallel()
	e := trial{yaml: steps("- run: mkdir t; printf '#!/bin/sh\\nexit 1\\n' > t/node; chmod +x t/node; echo $PWD/t >> $GITHUB_PATH\n- uses: actions/setup-node@v4")}.try(t)
	if e.Conclusion != sallyport.Failure || !strings.Contains(e.Cause, "has no Node.js that a job can use") {
		t.Errorf("%s: %q\n%s", e.Conclusion, e.Cause, e.all())
	}
}
