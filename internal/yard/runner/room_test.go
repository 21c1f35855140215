package runner

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/sandbox"
)

// realSandbox makes real rooms; it skips where this host cannot.
func realSandbox(t testing.TB) *sandbox.Sandbox {
	t.Helper()
	runc, err := filepath.Abs("../../../bin/runc")
	if err == nil {
		_, err = os.Stat(runc)
	}
	if err != nil {
		if runc, err = exec.LookPath("runc"); err != nil {
			t.Skip("there is no runc: scripts/runtime.sh builds it")
		}
	}
	s, err := sandbox.New(sandbox.Config{StateDir: t.TempDir(), Runtime: runc})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if _, err := s.Check(t.Context()); sallyport.ErrorCode(err) == sallyport.CodeUnavailable {
		t.Skipf("this host cannot isolate: %v", err)
	}
	return s
}

// TestInRealRoom runs one job that uses all that the runner offers in a real room.
func TestInRealRoom(t *testing.T) {
	t.Parallel()
	source, commits := repository(t)
	yard := newFakeYard()
	yard.source = source
	tr := trial{yard: yard, commit: commits[1], github: map[string]any{"sha": commits[1]}, secrets: map[string]string{"S": "hunter2-hunter2"}, yaml: steps(`
- uses: actions/checkout@v4
- run: |
    id -u; pwd; echo "$HOME $RUNNER_TEMP $RUNNER_TOOL_CACHE"; cat file; git log -1 --format=%s; git status --porcelain
    echo change > file; mkdir dist; echo made > dist/a; chown 5:5 dist/a; chmod 600 dist/a
    echo A=b >> $GITHUB_ENV; echo "$HOME/bin" >> $GITHUB_PATH; mkdir -p ~/bin; printf '#!/bin/sh\necho tool\n' > ~/bin/tool; chmod +x ~/bin/tool
    echo x=y >> $GITHUB_OUTPUT; echo '# s' >> $GITHUB_STEP_SUMMARY
  id: one
- run: echo "$A ${{ steps.one.outputs.x }}"; tool; echo "${{ secrets.S }}"; (setsid sleep 1000 &) ; touch /sallyport/x 2>/dev/null || echo read-only; ls $RUNNER_TEMP/_runner_file_commands | head -1
- { uses: actions/upload-artifact@v4, with: { path: dist } }
- { uses: actions/download-artifact@v4, with: { name: artifact, path: in } }
- run: mkdir -p /tmp/o ~/o; echo far > /tmp/o/a; echo home > ~/o/b
- { uses: actions/upload-artifact@v4, with: { name: far, path: "/tmp/o/*\n~/o" } }
- { uses: actions/download-artifact@v4, with: { name: far, path: ~/from } }
- run: (cd ~/from; grep -r . | sort)
- run: cat in/a; rm -rf in; stat -c %u file; (cat < /dev/tcp/127.0.0.1/1) 2>/dev/null || echo no network; echo $0; nosuchcommand || true
`)}
	tr.box = nil
	box := realSandbox(t)
	r := newTestRunner(t, yard, box, func(c *Config) { c.Path = "" })
	r.layout = newLayout
	yard.leases <- tr.lease(t)
	r.do(t.Context(), <-yard.leases)
	e := ended{JobResult: <-yard.result, lines: decodeLog(t, yard.log), yard: yard}
	if e.Conclusion != sallyport.Success {
		t.Errorf("%s: %s", e.Conclusion, e.Cause)
	}
	for _, want := range []string{"0\n/home/runner/work/hello/hello\n/home/runner /home/runner/work/_temp /opt/hostedtoolcache\ntwo\ntwo\n",
		"b y\ntool\n***\nread-only\n", "home/runner/o/b:home\ntmp/o/a:far\n", "made\n0\nno network\n/sallyport/scripts/5.sh\n/sallyport/scripts/5.sh: line 1: nosuchcommand: command not found\n"} {
		if !strings.Contains(e.text(), want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if left, err := os.ReadDir(r.cfg.WorkDir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if t.Failed() {
		t.Log(e.all())
	}
}
