package escape

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

func TestMain(m *testing.M) {
	if handled, code := Probe(os.Args); handled {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// outside runs the attacker without a room, as root of the host but in namespaces of its own
// where the machine would be changed, and returns what came of each attempt.
func outside(t *testing.T, c *canaries) map[string]string {
	t.Helper()
	words, err := json.Marshal(c.told)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(scratch) })
	cmd := exec.Command(os.Args[0], mark, "try", string(words))
	cmd.Dir = t.TempDir()
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUTS, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		var o outcome
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got[o.Name] = o.Got
	}
	return got
}

// TestAttemptsSucceedOutside is the control: without a room, root succeeds at what a room
// refuses, and the canaries notice. An attacker that cannot do harm proves nothing.
func TestAttemptsSucceedOutside(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: an ordinary user is refused most of it without a room, too")
	}
	d := &drill{Config: Config{Dir: t.TempDir()}, exe: os.Args[0]}
	c, err := d.plant()
	if err != nil {
		t.Fatal(err)
	}
	defer c.remove()
	c.told.Only = []string{
		"mount tmpfs", "bind", "make mounts shared", "chroot twice", "fsopen", "open_tree", "mknod of /dev/mem", "a setuid program",
		"the runner's file", "the runner's file, to write", "a new file beside the runner's", "host's /etc/shadow",
		"see a process of the host", "signal a process of the host", "open a process of the host",
		"shared memory of the host", "abstract socket of the host", "unix socket of the host",
		"unshare mount", "unshare net", "unshare pid", "sethostname", "packet socket", "raw socket",
		"the host's loopback", "the host's loopback, UDP", "allow core dumps", "go before others",
	}
	got := outside(t, c)
	for _, a := range list() {
		if slices.Contains(c.told.Only, a.name) && got[a.name] != done && got[a.name] != "sent" {
			t.Errorf("%s: got %q", a.name, got[a.name])
		}
	}
	if len(got) != len(c.told.Only) {
		t.Errorf("made %d of %d attempts", len(got), len(c.told.Only))
	}
	for _, r := range c.look() {
		want := NotHeld
		if r.Name == "the host's process" || r.Name == "the host's host name" {
			want = Held // they were not harmed on purpose
		}
		if r.Verdict != want {
			t.Errorf("%s: %s, which is %s; want %s", r.Name, r.Outcome, r.Verdict, want)
		}
	}
}

// TestJudge joins what the probe said with what must come of it.
func TestJudge(t *testing.T) {
	t.Parallel()
	list := []attempt{
		{"a", "refused", nil, perm, nil}, {"a", "done", nil, perm, nil}, {"a", "sentry", nil, perm, []string{done}},
		{"a", "other errno", nil, perm, nil}, {"a", "never made", nil, perm, nil},
	}
	const said = `{"name":"refused","got":"EPERM"}
{"name":"done","got":"done"}
{"name":"sentry","got":"done"}
{"name":"other errno","got":"EINVAL"}
{"name":"unknown","got":"EPERM"}
`
	for _, c := range []struct {
		level string
		want  []Verdict
	}{
		{"standard", []Verdict{Held, NotHeld, NotHeld, NotHeld, NotHeld}},
		{"strong", []Verdict{Held, NotHeld, Held, NotHeld, NotHeld}},
	} {
		results, err := judge(list, []byte(said), sallyport.Isolation{Level: c.level})
		if err != nil {
			t.Fatal(err)
		}
		var got []Verdict
		for _, r := range results {
			got = append(got, r.Verdict)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.level, got, c.want)
		}
	}
	for _, bad := range []string{"", "no outcome\n", `{"name":`} {
		if _, err := judge(list, []byte(bad), sallyport.Isolation{}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzJudge(f *testing.F) {
	f.Add([]byte(`{"name":"bind","got":"EPERM"}`))
	f.Add([]byte("{\"name\":\"bind\",\"got\":\"\x1b]0;x\"}\n{}"))
	f.Fuzz(func(t *testing.T, out []byte) {
		all := list()
		results, err := judge(all, out, sallyport.Isolation{Level: "strong"})
		if err == nil && len(results) != len(all) {
			t.Errorf("%d results of %d attempts", len(results), len(all))
		}
		for _, r := range results {
			if strings.ContainsFunc(r.Outcome, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Errorf("%q is not fit for a table", r.Outcome)
			}
		}
	})
}

// TestNamesAreUnique: the probe's word is joined by name.
func TestNamesAreUnique(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, a := range list() {
		if seen[a.name] || len(a.held) == 0 || a.do == nil {
			t.Errorf("%s: twice, or not whole", a.name)
		}
		seen[a.name] = true
	}
}

func TestProbeLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"sallyport"}, {"sallyport", "run", "x"}, {"sallyport", mark}, {"sallyport", "x", mark, "try"}} {
		if handled, _ := Probe(args); handled {
			t.Errorf("%q was taken", args)
		}
	}
}
