package sallyport_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sallyport-ci/sallyport"

// floors is the import lattice: a package may import only packages of lower
// floors (docs/ARCHITECTURE.md). The order inside a floor says nothing.
var floors = map[int][]string{
	1: {".", "internal/redact", "internal/advisory", "internal/plainyaml", "internal/yard/pidone", "internal/startup", "examples", "examples/hello"},
	2: {
		"internal/workflow",
		"internal/environment",
		"internal/egress",
		"internal/lockfile",
		"internal/attest",
		"internal/witness",
		"internal/issuer",
		"internal/rpc",
		"internal/kms",
		"internal/rotate",
		"internal/sqlstore",
		"internal/blobstore",
		"internal/forge",
		"internal/proxy",
		"internal/oci",
		"internal/oidc",
		"internal/yard/sandbox",
		"internal/yard/door",
		"internal/yard/image",
		"internal/yard/escape",
		"internal/yard/toolkit",
		"internal/yard/tools",
		"internal/yard/firewall",
		"internal/yard/broker",
		"internal/yard/trace",
	},
	3: {"internal/tlog", "internal/actions", "internal/attest/verify", "internal/policy", "internal/policy/rights", "internal/target", "internal/api", "internal/web", "internal/yard/runner", "internal/yard/service"},
	4: {"internal/engine"},
	5: {"internal/daemon"},
	6: {"internal/cli"},
	7: {"cmd/sallyport"},
}

// forTests packages hold conformance suites and fakes; only tests import them.
var forTests = []string{"internal/sallyporttest", "bench"}

// never lists what a package must not import, directly or through others, and why.
var never = []struct {
	pkg, imports, why string
}{
	{"internal/yard/", module + "/internal/kms", "the yard never holds a key"},
	{"internal/yard/", module + "/internal/attest", "the yard signs nothing"},
	{"internal/yard/", module + "/internal/issuer", "the yard signs nothing"},
	{"internal/yard/", module + "/internal/tlog", "the yard writes no log"},
	{"internal/yard/", module + "/internal/sqlstore", "the yard sees no state"},
	{"internal/yard/", module + "/internal/engine", "the yard decides nothing"},
	{"internal/yard/", module + "/internal/policy", "the yard judges nothing"},
	{"internal/yard/", module + "/internal/policy/rights", "the yard judges nothing"},
	{"internal/yard/pidone", "net", "every room would wait until it is initialised"},
	{"internal/yard/pidone", "golang.org/x/sys/unix", "every room would wait until it is initialised"},
	{"internal/yard/pidone", "regexp", "every room would wait until it is initialised"},
}

// direct lists what a package must not import by itself, and why.
var direct = []struct {
	pkg     string
	imports []string
	why     string
}{
	{"internal/engine", []string{"os", "os/exec", "net", "net/http", "database/sql", module + "/internal/sqlstore"}, "effects go through seams"},
	{"internal/workflow", []string{"os", "os/exec", "net", "net/http"}, "it is pure thought"},
	{"internal/policy", []string{"os", "os/exec", "net", "net/http"}, "it is pure thought"},
	{"internal/policy/rights", []string{"os", "os/exec", "net", "net/http"}, "it is pure thought"},
	{"internal/attest", []string{"os", "os/exec", "net", "net/http"}, "it is pure thought"},
	{"internal/issuer", []string{"os", "os/exec", "net", "net/http"}, "keys are elsewhere"},
	{"internal/lockfile", []string{"os", "os/exec", "net", "net/http"}, "it is pure thought"},
	{"internal/plainyaml", []string{"os", "os/exec", "net", "net/http"}, "it is pure thought"},
	{"internal/environment", []string{"os", "os/exec", "net", "net/http"}, "it is pure thought"},
	{"internal/egress", []string{"os", "os/exec", "net", "net/http"}, "it is pure thought"},
	{"internal/api", []string{module + "/internal/engine", module + "/internal/sqlstore"}, "faces know the services alone"},
	{"internal/web", []string{module + "/internal/engine", module + "/internal/sqlstore"}, "faces know the services alone"},
	{"internal/cli", []string{module + "/internal/engine", module + "/internal/sqlstore"}, "faces know the services alone"},
}

func list(t *testing.T, format string) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join `+format+` " "}}`, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	got := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		got[f[0]] = f[1:]
	}
	return got
}

func short(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

func TestLayers(t *testing.T) {
	t.Parallel()
	floor := make(map[string]int)
	for n, pkgs := range floors {
		for _, p := range pkgs {
			floor[p] = n
		}
	}
	for pkg, imports := range list(t, ".Imports") {
		from := short(pkg)
		if slices.Contains(forTests, from) {
			continue
		}
		if floor[from] == 0 {
			t.Errorf("%s has no floor: give it one here and in docs/ARCHITECTURE.md", from)
		}
		for _, imp := range imports {
			if imp != module && !strings.HasPrefix(imp, module+"/") {
				continue
			}
			to := short(imp)
			if slices.Contains(forTests, to) {
				t.Errorf("%s imports %s, which is for tests", from, to)
			} else if floor[to] >= floor[from] {
				t.Errorf("%s (floor %d) imports %s (floor %d): an arrow may only point down", from, floor[from], to, floor[to])
			}
		}
		for _, d := range direct {
			for _, imp := range imports {
				if from == d.pkg && slices.Contains(d.imports, imp) {
					t.Errorf("%s imports %s: %s", from, imp, d.why)
				}
			}
		}
		if from == "." {
			for _, imp := range imports {
				if strings.Contains(strings.Split(imp, "/")[0], ".") {
					t.Errorf("the root imports %s: it knows the standard library alone", imp)
				}
			}
		}
	}
}

func TestTheYardHoldsNothing(t *testing.T) {
	t.Parallel()
	for pkg, deps := range list(t, ".Deps") {
		for _, n := range never {
			if strings.HasPrefix(short(pkg), n.pkg) && slices.Contains(deps, n.imports) {
				t.Errorf("%s reaches %s: %s", short(pkg), short(n.imports), n.why)
			}
		}
	}
}
