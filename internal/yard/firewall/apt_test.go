package firewall_test

import (
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
)

// apt runs apt-get on a world of its own.
func apt(t *testing.T, proxy, dir, source string, argv ...string) (string, error) {
	t.Helper()
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "etc", "out"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, map[string]string{"etc/sources.list": source + "\n", "status": ""})
	base := []string{"apt-get", "-q", "-o", "Dir::Etc=" + dir + "/etc", "-o", "Dir::Etc::sourceparts=-", "-o", "Dir::Etc::parts=-", "-o", "Dir::State=" + dir + "/state", "-o", "Dir::State::status=" + dir + "/status",
		"-o", "Dir::Cache=" + dir + "/cache", "-o", "APT::Sandbox::User=", "-o", "Acquire::http::Proxy=" + proxy, "-o", "Acquire::Retries=0", "-o", "Acquire::Languages=none", "-o", "APT::Architecture=" + debArch()}
	return client(t, proxy, "/dev/null", nil, filepath.Join(dir, "out"), append(base, argv...)...)
}

// TestAptCommand uses an archive that apt is told to trust, for it is not signed here.
func TestAptCommand(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("apt-get is not installed")
	}
	w, a := withDebian(t)
	j := w.open("Debian evil")
	_, proxy := newGate(t, j)
	dir := t.TempDir()
	source := "deb [trusted=yes] http://deb.test/debian stable main"
	_, body, _ := strings.Cut(string(a.files["InRelease"]), "\n\n")
	body, _, _ = strings.Cut(body, "-----")
	delete(a.files, "InRelease")
	a.files["Release"] = []byte(body)
	if out, err := apt(t, proxy, dir, source, "update"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := apt(t, proxy, dir, source, "download", "hello"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := apt(t, proxy, dir, source, "download", "evil")
	if err == nil || !strings.Contains(out, "known to be malicious") {
		t.Errorf("apt does not say why: %v\n%s", err, out)
	}
}

// TestRealArchive takes a small package of a small suite from the archive that this host uses.
func TestRealArchive(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it reaches out")
	}
	up, _ := firewall.Discover(firewall.Host{FS: os.DirFS("/"), Env: os.Getenv})
	i := slices.IndexFunc(up.List, func(u firewall.Upstream) bool {
		return u.Kind == firewall.KindDebian && slices.ContainsFunc(u.Suites, func(s string) bool { return strings.HasSuffix(s, "-updates") })
	})
	if i < 0 {
		t.Skip("the host is configured for no archive with a suite of updates")
	}
	u := up.List[i]
	u.Suites = slices.DeleteFunc(slices.Clone(u.Suites), func(s string) bool { return !strings.HasSuffix(s, "-updates") })
	up.List = []firewall.Upstream{u}
	reachable(t, up, firewall.KindDebian)
	f, err := firewall.New(firewall.Config{Upstreams: up, Transport: http.DefaultTransport, CacheDir: t.TempDir(), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	_, proxy := newGate(t, f.Job(firewall.JobConfig{}))
	dir := t.TempDir()
	const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	if _, err := os.Stat(keyring); err != nil {
		t.Skip("the host has no keys of Debian's archive")
	}
	source := "deb [signed-by=" + keyring + "] " + u.Base.String() + " " + u.Suites[0] + " main"
	out, err := apt(t, proxy, dir, source, "update")
	if skipAway(t, out); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err = apt(t, proxy, dir, source, "download", "tzdata")
	skipAway(t, out)
	if strings.Contains(out, "Unable to locate") {
		t.Skip("the suite has no time zones just now")
	}
	if debs, _ := filepath.Glob(filepath.Join(dir, "out", "tzdata_*.deb")); err != nil || len(debs) != 1 {
		t.Errorf("%v\n%s", err, out)
	}
}
