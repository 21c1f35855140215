package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
)

// A signed summary stands for its own verdict alone: a store in which a
// denial was turned into an allowance finds no summary that says so.
func TestSummaryIsOfThisVerdict(t *testing.T) {
	t.Parallel()
	e := &Engine{instance: attest.Instance("ci.example")}
	v := sallyport.Verdict{Run: "r1", Artifact: "app 1", Environment: "production", PolicyDigest: sallyport.DigestOf([]byte("policy")),
		At: time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)}
	summary := `{"timeVerified":"2026-01-02T03:04:05Z","resourceUri":"https://ci.example/runs/r1/artifacts/app%201?environment=production",
		"policy":{"digest":{"sha256":"` + v.PolicyDigest.Hex() + `"}},"verificationResult":"PASSED"}`
	if !e.summarises([]byte(summary), v) {
		t.Fatal("its own summary was not recognised")
	}
	for old, other := range map[string]string{
		"PASSED": "FAILED", "=production": "=staging", "/r1/": "/r2/", "app%201": "app", v.PolicyDigest.Hex(): strings.Repeat("0", 64), "03:04:05": "03:04:06",
	} {
		if e.summarises([]byte(strings.Replace(summary, old, other, 1)), v) {
			t.Errorf("with %s for %s it still counts", other, old)
		}
	}
	if e.summarises(nil, v) || e.summarises([]byte("[]"), v) {
		t.Error("nonsense counts")
	}
}
