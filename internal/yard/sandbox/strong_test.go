package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

// findTestRunsc finds a runsc to test with; "" if there is none.
func findTestRunsc() string {
	if built, err := filepath.Abs("../../../bin/runsc"); err == nil {
		if _, err := os.Stat(built); err == nil {
			return built
		}
	}
	found, _ := exec.LookPath("runsc") // "" if there is none
	return found
}

func runscPath(t testing.TB) string {
	t.Helper()
	path := findTestRunsc()
	if path == "" {
		t.Skip("there is no runsc: make strong builds it")
	}
	return path
}

func TestStrongConformance(t *testing.T) {
	t.Parallel()
	s := open(t, Config{Level: Strong, Runtime: runscPath(t)})
	sallyporttest.Sandbox(t, func(t *testing.T) sallyporttest.SandboxCase {
		return sallyporttest.SandboxCase{Sandbox: s, Dir: t.TempDir()}
	})
}

// TestCheckRunsc refuses what is no runsc or does not tell its age.
func TestCheckRunsc(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"v0.0.0-20260905035102-160fafc42237": "runsc 0.0.0-20260905035102-160fafc42237",
		"release-20260302.0":                 "runsc release-20260302.0",
		"v0.0.0-20250905035102-160fafc42237": "",
		"release-20240101.0":                 "",
		"VERSION_MISSING":                    "",
		"(devel)":                            "",
		"":                                   "",
	} {
		got, err := checkRunsc(version)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", version, got, err, want)
		}
		if err != nil && sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
			t.Errorf("%q: got %v", version, err)
		}
	}
	if _, err := New(Config{StateDir: t.TempDir(), Level: Strong, Runtime: "/bin/true"}); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("a program that is no runsc: got %v", err)
	}
	if _, err := New(Config{StateDir: t.TempDir(), Level: "stronger"}); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("an unknown level: got %v", err)
	}
}
