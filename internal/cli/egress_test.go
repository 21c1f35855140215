package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/egress"
)

// What was refused stands first, and text of a job cannot write to the terminal.
func TestPrintDoor(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := sallyport.Door{Name: "build", Rules: sallyport.EgressRules{Level: sallyport.EgressListed, Commit: strings.Repeat("a", 40), File: sallyport.PlanFile{Path: egress.File}},
		Record: sallyport.DoorRecord{
			Flows: []sallyport.Flow{
				{Protocol: "tls", Host: "good.example.com", Port: 443, Decision: sallyport.EgressAllowed, Rule: egress.File + ":3", Count: 1, Sent: 10, Received: 2048, First: at, Step: 2},
				{Protocol: "dns", Host: "evil\x1b[31m.example.com", Decision: sallyport.EgressDenied, Reason: egress.ReasonHost, Count: 7, First: at.Add(time.Second)},
			},
			Packages: []sallyport.PackageFetch{
				{PURL: "pkg:npm/a@1", Decision: sallyport.EgressAllowed, Size: 5},
				{PURL: "pkg:npm/worm@6", Decision: sallyport.EgressDenied, Reason: "known malicious"},
			},
			Uses: []sallyport.CredentialUse{{Credential: "publish", Host: "good.example.com", Method: "PUT", Status: 201, Decision: sallyport.EgressAllowed}},
			Lost: 4,
		}}
	var out bytes.Buffer
	printDoor(&out, d)
	var words []string
	for line := range strings.Lines(out.String()) {
		words = append(words, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"build: network listed by .sallyport/egress.yaml at aaaaaaaaaa",
		"DECISION HOST PORT VIA TIMES SENT RECEIVED STEP WHY",
		"denied evil·[31m.example.com - dns 7 0 B 0 B - host-not-allowed",
		"allowed good.example.com 443 tls 1 10 B 2.0 KiB 2 .sallyport/egress.yaml:3",
		"DECISION PACKAGE SIZE DIGEST STEP WHY",
		"denied pkg:npm/worm@6 0 B - - known malicious",
		"allowed pkg:npm/a@1 5 B - - -",
		"DECISION CREDENTIAL HOST METHOD STATUS SCRUBBED STEP WHY",
		"allowed publish good.example.com PUT 201 - - -",
		"4 more were not kept: there were too many",
	}
	if got := strings.Join(words, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestWriteRules(t *testing.T) {
	t.Parallel()
	root, outside := t.TempDir(), t.TempDir()
	if err := writeRules(root, "network: none\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(root, egress.File)); err != nil || string(got) != "network: none\n" {
		t.Errorf("got %q, %v", got, err)
	}
	linked := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(linked, ".sallyport")); err != nil {
		t.Fatal(err)
	}
	if err := writeRules(linked, "network: none\n"); err == nil {
		t.Error("a link in the work tree led out of it")
	}
}
