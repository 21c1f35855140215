package sandbox

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	sallyport "github.com/sallyport-ci/sallyport"
)

// wellEquipped is a host that has everything, asked by root.
func wellEquipped() survey {
	return survey{
		root: fstest.MapFS{"proc/swaps": {Data: []byte("Filename\tType\n/dev/sda2 partition\n")}}, kernel: func() string { return "6.18.5-cloud-amd64" },
		cgroups: func() (cgroups, error) { return cgroups{}, errors.New("not asked") },
		users:   func() userMaps { return userMaps{count: 65535} },
		tun:     func() error { return nil }, loop: func() bool { return true }, notify: func() bool { return true }, fanotify: func() error { return nil },
		runtime: func() (string, error) { return "runc 1.5.2", nil }, strong: func() (string, error) { return "runsc x", nil },
	}
}

// TestSurvey takes one thing after the other from a host.
func TestSurvey(t *testing.T) {
	t.Parallel()
	missing := func() (string, error) {
		return "", sallyport.Errorf(sallyport.CodeUnavailable, "it is not there").WithHint("build it")
	}
	user := func(s *survey) { s.uid = 1000 }
	for name, c := range map[string]struct {
		change func(*survey)
		row    string
		state  sallyport.FacilityState
		says   string // in what was found or the mend
	}{
		"runtime":           {func(s *survey) {}, "runtime", sallyport.FacilityThere, "runc 1.5.2"},
		"no runtime":        {func(s *survey) { s.runtime = missing }, "runtime", sallyport.FacilityMissing, "build it"},
		"no gvisor":         {func(s *survey) { s.strong = missing }, "gvisor", sallyport.FacilityMissing, "build it"},
		"linux":             {func(s *survey) {}, "linux", sallyport.FacilityThere, "6.18"},
		"linux 5.19":        {func(s *survey) { s.kernel = func() string { return "5.19.0" } }, "linux", sallyport.FacilityThere, "5.19"},
		"old linux":         {func(s *survey) { s.kernel = func() string { return "5.15.0-91-generic" } }, "linux", sallyport.FacilityMissing, "5.19 or later"},
		"strange linux":     {func(s *survey) { s.kernel = func() string { return "?" } }, "linux", sallyport.FacilityMissing, "5.19 or later"},
		"root's namespaces": {func(s *survey) {}, "user-namespaces", sallyport.FacilityThere, "root"},
		"no namespaces":     {func(s *survey) { s.root = fstest.MapFS{"proc/sys/user/max_user_namespaces": {Data: []byte("0\n")}} }, "user-namespaces", sallyport.FacilityMissing, "max_user_namespaces"},
		"users' namespaces": {user, "user-namespaces", sallyport.FacilityThere, "ordinary"},
		"AppArmor": {func(s *survey) {
			user(s)
			s.root = fstest.MapFS{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": {Data: []byte("1\n")}}
		}, "user-namespaces", sallyport.FacilityMissing, "AppArmor profile"},
		"root's ids":         {func(s *survey) {}, "subordinate-ids", sallyport.FacilityNeedless, "root"},
		"a user's ids":       {user, "subordinate-ids", sallyport.FacilityThere, "65535"},
		"no ids":             {func(s *survey) { user(s); s.users = func() userMaps { return userMaps{} } }, "subordinate-ids", sallyport.FacilityMissing, "uidmap"},
		"no cgroups":         {func(s *survey) {}, "cgroups", sallyport.FacilityMissing, "not asked"},
		"no mounted cgroups": {func(s *survey) { s.cgroups = func() (cgroups, error) { return cgroups{}, nil } }, "cgroups", sallyport.FacilityMissing, "mount"},
		"memory":             {func(s *survey) { s.cgroups = here(t, "memory") }, "cgroup-memory", sallyport.FacilityThere, ""},
		"no cpu":             {func(s *survey) { s.cgroups = here(t, "memory") }, "cgroup-cpu", sallyport.FacilityMissing, "Delegate=yes"},
		"no processes":       {func(s *survey) { s.cgroups = here(t, "memory") }, "cgroup-processes", sallyport.FacilityMissing, "Delegate=yes"},
		"a user's processes": {func(s *survey) { user(s); s.cgroups = here(t, "memory") }, "cgroup-processes", sallyport.FacilityNeedless, "user namespace"},
		"swap":               {func(s *survey) { s.cgroups = here(t, "memory") }, "cgroup-swap", sallyport.FacilityMissing, "swapoff"},
		"no swap to limit": {func(s *survey) {
			s.cgroups = here(t, "memory")
			s.root = fstest.MapFS{"proc/swaps": {Data: []byte("Filename\tType\n")}}
		}, "cgroup-swap", sallyport.FacilityThere, "no swap"},
		"disks":        {func(s *survey) {}, "loop-devices", sallyport.FacilityThere, "mkfs"},
		"no disks":     {func(s *survey) { s.loop = func() bool { return false } }, "loop-devices", sallyport.FacilityMissing, "e2fsprogs"},
		"users' disks": {user, "loop-devices", sallyport.FacilityMissing, "only root"},
		"no tun":       {func(s *survey) { s.tun = func() error { return os.ErrPermission } }, "tun", sallyport.FacilityNeedless, "packet socket"},
		"no listener":  {func(s *survey) { s.notify = func() bool { return false } }, "seccomp-listener", sallyport.FacilityMissing, "5.7"},
		"no fanotify":  {func(s *survey) { s.fanotify = func() error { return os.ErrPermission } }, "fanotify", sallyport.FacilityMissing, "as root"},
	} {
		s := wellEquipped()
		c.change(&s)
		rows := 0
		for _, f := range s.facilities() {
			if f.Name != c.row {
				continue
			}
			rows++
			if f.State != c.state || !strings.Contains(f.Found+f.Mend, c.says) || f.For == "" || (f.Mend != "") != (f.State == sallyport.FacilityMissing) {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if rows != 1 {
			t.Errorf("%s: %d rows of %s", name, rows, c.row)
		}
	}
}

// here are cgroups of version 1 with one controller, in a directory that may be written.
func here(t *testing.T, controller string) func() (cgroups, error) {
	dir := t.TempDir()
	return func() (cgroups, error) {
		return cgroups{trees: []hierarchy{{controllers: []string{controller}, mount: dir, own: dir}}}, nil
	}
}

// TestSurveyHere asks this host, which runs the tests of rooms.
func TestSurveyHere(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, f := range Survey() {
		if seen[f.Name] || f.For == "" || f.State == sallyport.FacilityMissing && f.Mend == "" {
			t.Errorf("%+v", f)
		}
		seen[f.Name] = true
	}
}

// TestCgroupMounts has lines vanish from single readings of the mount table.
func TestCgroupMounts(t *testing.T) {
	t.Parallel()
	const memory, cpu, root = "30 20 0:25 / /c/memory rw - cgroup cgroup rw,memory\n", "31 20 0:26 / /c/cpu rw - cgroup cgroup rw,cpu\n", "20 1 8:1 / / rw - ext4 /dev/sda rw\n"
	readings := []string{root + cpu, root + memory, memory + cpu + root, root}
	n := 0
	got, err := cgroupMounts(func() ([]byte, error) { n++; return []byte(readings[min(n, len(readings))-1]), nil })
	if err != nil || string(got) != cpu+memory {
		t.Errorf("got %q, %v", got, err)
	}
	if n != 3 {
		t.Errorf("read %d times", n)
	}
	if _, err := cgroupMounts(func() ([]byte, error) { return nil, os.ErrPermission }); err == nil {
		t.Error("an unreadable table is no error")
	}
	if got, err := cgroupMounts(func() ([]byte, error) { return []byte(root), nil }); err != nil || len(got) != 0 {
		t.Errorf("without cgroups: %q, %v", got, err)
	}
}
