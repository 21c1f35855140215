package sandbox

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

func TestCheckRuntime(t *testing.T) {
	t.Parallel()
	const rest = "\nspec: 1.2.1\ngo: go1.24\nlibseccomp: 2.5.4\n"
	for _, c := range []struct {
		out, want string
	}{
		{"runc version 1.5.2" + rest, "runc 1.5.2"},
		{"runc version 1.2.8" + rest, "runc 1.2.8"},
		{"runc version 1.3.3" + rest, "runc 1.3.3"},
		{"runc version 1.4.0" + rest, "runc 1.4.0"},
		{"runc version 1.4.0-rc.3" + rest, "runc 1.4.0-rc.3"},
		{"runc version 2.0.0+dev" + rest, "runc 2.0.0+dev"},
		{"runc version 1.2.7" + rest, ""},
		{"runc version 1.3.2" + rest, ""},
		{"runc version 1.3.0-rc.1" + rest, ""},
		{"runc version 1.4.0-rc.1" + rest, ""},
		{"runc version 1.4.0-rc.2" + rest, ""},
		{"runc version 1.1.5+ds1" + rest, ""},
		{"runc version 1.1.15" + rest, ""},
		{"runc version 1.5.2\nspec: 1.3.0\ngo: go1.26\n", ""},
		{"crun version 1.8.1" + rest, ""},
		{"runc version 99999.0.0" + rest, ""},
		{"", ""},
	} {
		got, err := checkRuntime(c.out)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: got %q, %v; want %q", c.out, got, err, c.want)
		}
		if err != nil && sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
			t.Errorf("%q: got %v, want %s", c.out, err, sallyport.CodeUnavailable)
		}
	}
}

func FuzzCheckRuntime(f *testing.F) {
	f.Add("runc version 1.5.2\nlibseccomp: 2.5.4\n")
	f.Add("runc version 1.4.0-rc.2\n\nlibseccomp: x")
	f.Fuzz(func(t *testing.T, out string) {
		v, err := checkRuntime(out)
		if err == nil && !strings.HasPrefix(v, "runc ") {
			t.Errorf("%q: got %q", out, v)
		}
	})
}

func TestOldRuntimeRefused(t *testing.T) {
	t.Parallel()
	old := filepath.Join(t.TempDir(), "runc")
	script := "#!/bin/sh\necho 'runc version 1.1.12'\necho 'libseccomp: 2.5.4'\n"
	if err := os.WriteFile(old, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := New(Config{StateDir: t.TempDir(), Runtime: old})
	if sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("got %v, want %s", err, sallyport.CodeUnavailable)
	}
	if _, hint := sallyport.ErrorMessage(err); !strings.Contains(hint, "runtime.sh") {
		t.Errorf("got hint %q, want the mend", hint)
	}
}

func TestParseCgroups(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, mounts, own string
		want              []string // own directories
		v2                bool
	}{
		{
			"v2",
			"30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n",
			"0::/system.slice/sallyport.service\n",
			[]string{"/sys/fs/cgroup/system.slice/sallyport.service"}, true,
		},
		{
			"v1 and hybrid",
			"30 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n32 23 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n33 23 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n",
			"4:memory:/a/b\n3:cpu,cpuacct:/\n1:name=systemd:/x\n0::/\n",
			[]string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/systemd/x"}, false,
		},
		{
			"part of the hierarchy is mounted",
			"31 23 0:27 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"4:memory:/docker/abc/job\n",
			[]string{"/sys/fs/cgroup/memory/job"}, false,
		},
		{
			"our cgroup is not below the mount",
			"31 23 0:27 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"4:memory:/other\n",
			nil, false,
		},
		{"none", "", "", nil, false},
		{"broken lines", "x\n1 2 3 - cgroup\n - cgroup2 \n", "x\n1:\n", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := parseCgroups([]byte(c.mounts), []byte(c.own))
			var dirs []string
			for _, h := range got.trees {
				dirs = append(dirs, h.own)
			}
			if !slices.Equal(dirs, c.want) {
				t.Errorf("got %q, want %q", dirs, c.want)
			}
			if _, v2 := got.v2(); v2 != c.v2 {
				t.Errorf("v2: got %v, want %v", v2, c.v2)
			}
		})
	}
}

func TestSubIDs(t *testing.T) {
	t.Parallel()
	const file = "root:1:5\nann:100000:65536\nann:900000:10\n1001:300000:1000\nbad:x:y\nneg:-1:5\nzero:5:0\n:7:7\n"
	for _, c := range []struct {
		name         string
		uid          int
		first, count int
	}{
		{"ann", 1000, 100000, 65536}, {"bob", 1001, 300000, 1000}, {"", 1001, 300000, 1000},
		{"bad", 5, 0, 0}, {"neg", 5, 0, 0}, {"zero", 6, 0, 0}, {"nobody", 7, 0, 0}, {"", 8, 0, 0},
	} {
		if first, count := parseSubIDs(bufio.NewScanner(strings.NewReader(file)), c.name, c.uid); first != c.first || count != c.count {
			t.Errorf("%s %d: got %d, %d; want %d, %d", c.name, c.uid, first, count, c.first, c.count)
		}
	}
}

func TestUserNamespacesAllowed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		files map[string]string
		mend  string // "" = allowed
	}{
		{"nothing set", nil, ""},
		{"allowed", map[string]string{"proc/sys/user/max_user_namespaces": "100\n", "proc/sys/kernel/unprivileged_userns_clone": "1\n"}, ""},
		{"none", map[string]string{"proc/sys/user/max_user_namespaces": "0\n"}, "max_user_namespaces"},
		{"Debian's switch", map[string]string{"proc/sys/kernel/unprivileged_userns_clone": "0\n"}, "unprivileged_userns_clone"},
		{"AppArmor", map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n", "proc/self/attr/current": "unconfined\n"}, "profile"},
		{"AppArmor with a profile", map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n", "proc/self/attr/current": "sallyport (unconfined)\n"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, content := range c.files {
				root[name] = &fstest.MapFile{Data: []byte(content)}
			}
			err := userNamespacesAllowed(root)
			if (err == nil) != (c.mend == "") {
				t.Fatalf("got %v", err)
			}
			if err == nil {
				return
			}
			if _, hint := sallyport.ErrorMessage(err); sallyport.ErrorCode(err) != sallyport.CodeUnavailable || !strings.Contains(hint, c.mend) {
				t.Errorf("got %v with hint %q, want %s and %q", err, hint, sallyport.CodeUnavailable, c.mend)
			}
		})
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: an ordinary user's view is kept by the kernel")
	}
	root := t.TempDir()
	for name, mode := range map[string]os.FileMode{"open": 0o644, "secret": 0o600, "group": 0o640, "server.key": 0o644, "sub/open": 0o644, "closed/open": 0o644} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "closed"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("secret", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	got, err := unreadable(context.Background(), root)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i] = strings.TrimPrefix(got[i], root+"/")
	}
	slices.Sort(got)
	if want := []string{"closed", "fifo", "group", "secret", "server.key"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHiddenIsRescanned(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	h := &hidden{now: func() time.Time { return now }}
	first, err := h.paths(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(first, "/etc/shadow") || !slices.IsSorted(first) {
		t.Errorf("got %q", first)
	}
	at := h.at
	now = now.Add(scanEvery / 2)
	if _, err := h.paths(context.Background()); err != nil || h.at != at {
		t.Errorf("scanned again after half the time, %v", err)
	}
	now = now.Add(scanEvery)
	if _, err := h.paths(context.Background()); err != nil || h.at == at {
		t.Errorf("not scanned again, %v", err)
	}
}
