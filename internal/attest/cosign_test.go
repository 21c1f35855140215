package attest_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
)

// cosign finds an unmodified cosign: $SALLYPORT_TEST_COSIGN, PATH, bin/cosign
// of this repository (scripts/cosign.sh builds it).
func cosign(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("SALLYPORT_TEST_COSIGN"); path != "" {
		return path
	}
	if path, err := exec.LookPath("cosign"); err == nil {
		return path
	}
	path, err := filepath.Abs("../../bin/cosign")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Skip("no cosign: run scripts/cosign.sh, or set SALLYPORT_TEST_COSIGN")
	}
	return path
}

// isolated runs argv with nothing but its own loopback and an empty home, so
// that it can know the installation only from the trusted root it was given.
func isolated(t *testing.T, argv ...string) (output string, err error) {
	t.Helper()
	unshare, lookErr := exec.LookPath("unshare")
	if lookErr != nil {
		t.Skip("no unshare")
	}
	flags := []string{"--net"}
	if os.Geteuid() != 0 {
		flags = append(flags, "--map-root-user")
	}
	if out, err := exec.Command(unshare, append(flags, "true")...).CombinedOutput(); err != nil {
		t.Skipf("this host allows no network namespace: %s", bytes.TrimSpace(out))
	}
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), unshare, append(flags, argv...)...)
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "PATH=/nonexistent"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestCosign is the conformance test: an unmodified cosign, offline, without
// any flag that weakens it, accepts what we sign and refuses what was altered.
func TestCosign(t *testing.T) {
	t.Parallel()
	bin := cosign(t)
	h := newHouse(t)
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	subjects := []attest.Subject{{Name: "artifact", Digest: sallyport.DigestOf(artifact)}}
	vsa, err := attest.VSA(subjects, attest.VSAInput{
		Verifier: testInstance.GateIdentity(), At: time.Now(), Resource: testInstance.Run("r"), Passed: true, Levels: []string{"SLSA_BUILD_LEVEL_2"},
		Policy: attest.Resource{URI: "default", Digest: attest.SHA256(sallyport.DigestOf([]byte("policy")))},
	})
	if err != nil {
		t.Fatal(err)
	}
	deployment, err := attest.DeploymentStatement(subjects, deploymentPredicate())
	if err != nil {
		t.Fatal(err)
	}
	root := write("trusted_root.json", h.root)
	blob, altered := write("blob", artifact), write("altered", append(bytes.Clone(artifact), '!'))
	h.sign(t, buildIdentity(), provenance(t)) // the bundle below is not the log's first entry
	bundleJSON := h.sign(t, buildIdentity(), provenance(t))
	bundle := write("provenance.json", bundleJSON)
	expired, _, err := h.notary.Sign(t.Context(), time.Now().Add(-time.Hour), buildIdentity(), provenance(t))
	if sallyport.ErrorCode(err) != "" {
		t.Fatal(err)
	}
	build, gate := buildIdentity().SAN, testInstance.GateIdentity()
	const issuer = "https://sallyport.localhost"

	for name, c := range map[string]struct {
		bundle, identity, issuer, kind, blob string
		want                                 string // in the output; "" wants success
	}{
		"provenance":         {bundle, build, issuer, "slsaprovenance1", blob, ""},
		"verdict":            {write("vsa.json", h.sign(t, gateIdentity(), vsa)), gate, issuer, sallyport.PredicateVSA, blob, ""},
		"deployment":         {write("deployment.json", h.sign(t, gateIdentity(), deployment)), gate, issuer, sallyport.PredicateDeployment, blob, ""},
		"altered blob":       {bundle, build, issuer, "slsaprovenance1", altered, "digest"},
		"wrong identity":     {bundle, gate, issuer, "slsaprovenance1", blob, "identity"},
		"wrong issuer":       {bundle, build, issuer + ".evil", "slsaprovenance1", blob, "issuer"},
		"tampered predicate": {write("tampered.json", tamperPayload(t, bundleJSON)), build, issuer, "slsaprovenance1", blob, "log entry"},
		"before the keys":    {write("expired.json", expired), build, issuer, "slsaprovenance1", blob, "timestamp"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := isolated(t, bin, "verify-blob-attestation", "--bundle", c.bundle, "--trusted-root", root,
				"--certificate-identity", c.identity, "--certificate-oidc-issuer", c.issuer, "--type", c.kind, c.blob)
			if c.want == "" {
				if err != nil || strings.TrimSpace(out) != "Verified OK" {
					t.Errorf("cosign: %v\n%s", err, out)
				}
			} else if err == nil || !strings.Contains(out, c.want) || strings.Contains(out, "Verified OK") {
				t.Errorf("cosign: %v\n%s\nwant a refusal that speaks of %q", err, out, c.want)
			}
		})
	}
}
