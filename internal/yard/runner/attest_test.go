package runner

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

// TestAttest tries what of a step's inputs the control plane is asked to sign.
func TestAttest(t *testing.T) {
	t.Parallel()
	const make = "- run: |\n    mkdir dist; printf 1 > dist/a.bin; printf 2 > dist/b.bin; printf 1 > dist/a-again.bin; (cd dist && sha256sum *.bin > ../SUMS)\n" +
		"    echo '{\"spdxVersion\":\"SPDX-2.3\",\"SPDXID\":\"SPDXRef-DOCUMENT\"}' > spdx.json\n" +
		"    echo '{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\"}' > cdx.json; echo '[1]' > list.json; head -c 1000000 /dev/zero | tr '\\0' ' ' > large.json\n"
	one, two := sallyport.DigestOf([]byte("1")), sallyport.DigestOf([]byte("2"))
	for _, c := range []struct {
		name, action, with string
		subjects           string // NAME=DIGEST, by spaces
		kind, predicate    string
		fails              string
	}{
		{name: "a file", action: "attest-build-provenance", with: "subject-path: dist/a.bin", subjects: "a.bin=" + string(one)},
		{name: "a pattern", action: "attest", with: "subject-path: 'dist/[ab].bin'", subjects: "a.bin=" + string(one) + " b.bin=" + string(two)},
		{name: "several, with a name", action: "attest", with: "subject-path: 'dist/a.bin, dist/b.bin'\nsubject-name: app", subjects: "app=" + string(one) + " app=" + string(two)},
		{name: "a digest", action: "attest-build-provenance", with: "subject-digest: " + string(two) + "\nsubject-name: ghcr.example/app", subjects: "ghcr.example/app=" + string(two)},
		{name: "checksums", action: "attest-build-provenance", with: "subject-checksums: SUMS", subjects: "a-again.bin=" + string(one) + " a.bin=" + string(one) + " b.bin=" + string(two)},
		{name: "checksums as text", action: "attest", with: "subject-checksums: '" + one.Hex() + "  x'", subjects: "x=" + string(one)},
		{name: "a predicate", action: "attest", with: "subject-path: dist/a.bin\npredicate-type: https://example.com/tested\npredicate: '{\"ok\":true}'",
			subjects: "a.bin=" + string(one), kind: "https://example.com/tested", predicate: `{"ok":true}`},
		{name: "SPDX", action: "attest-sbom", with: "subject-path: dist/a.bin\nsbom-path: spdx.json", subjects: "a.bin=" + string(one),
			kind: "https://spdx.dev/Document/v2.3", predicate: `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT"}`},
		{name: "CycloneDX", action: "attest", with: "subject-path: dist/a.bin\nsbom-path: cdx.json", subjects: "a.bin=" + string(one),
			kind: "https://cyclonedx.org/bom", predicate: `{"bomFormat":"CycloneDX","specVersion":"1.6"}`},
		{name: "no subject", action: "attest", with: "show-summary: false", fails: "exactly one of"},
		{name: "two kinds of subjects", action: "attest", with: "subject-path: dist\nsubject-checksums: SUMS", fails: "exactly one of"},
		{name: "nothing there", action: "attest", with: "subject-path: none", fails: "matches no file"},
		{name: "outside", action: "attest", with: "subject-path: /etc/passwd", fails: "not beneath the workspace"},
		{name: "another hash", action: "attest", with: "subject-digest: sha1:aa\nsubject-name: x", fails: "64 hexadecimal digits"},
		{name: "a digest of nothing named", action: "attest", with: "subject-digest: " + string(one), fails: "needs subject-name"},
		{name: "no checksums", action: "attest", with: "subject-checksums: list.json", fails: "is not a SHA-256 and a name"},
		{name: "a type alone", action: "attest", with: "subject-path: dist/a.bin\npredicate-type: https://example.com/x", fails: "one of predicate and predicate-path"},
		{name: "a predicate alone", action: "attest", with: "subject-path: dist/a.bin\npredicate: '{}'", fails: "needs predicate-type"},
		{name: "not an SBOM", action: "attest-sbom", with: "subject-path: dist/a.bin\nsbom-path: list.json", fails: "neither SPDX nor CycloneDX"},
		{name: "an SBOM too large", action: "attest-sbom", with: "subject-path: dist/a.bin\nsbom-path: large.json", fails: "more than 900 KiB"},
		{name: "to a registry", action: "attest", with: "subject-path: dist/a.bin\npush-to-registry: true", fails: "push-to-registry is not available"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := trial{yaml: steps(make + "- id: at\n  uses: actions/" + c.action + "@v4\n  with:\n" + indent(c.with, 4) +
				"\n- run: echo \"id=${{ steps.at.outputs.attestation-id }} url=${{ steps.at.outputs.attestation-url }}\"; cat \"${{ steps.at.outputs.bundle-path }}\" $RUNNER_TEMP/created_attestation_paths.txt")}.try(t)
			if c.fails != "" {
				if e.Conclusion != sallyport.Failure || !strings.Contains(e.Cause, c.fails) || len(e.yard.claims) > 0 {
					t.Errorf("got %s, %q and %d claims, want a failure with %q", e.Conclusion, e.Cause, len(e.yard.claims), c.fails)
				}
				return
			}
			if e.Conclusion != sallyport.Success || len(e.yard.claims) != 1 {
				t.Fatalf("got %s, %q and %d claims", e.Conclusion, e.Cause, len(e.yard.claims))
			}
			claim := e.yard.claims[0]
			var subjects []string
			for _, s := range claim.Subjects {
				subjects = append(subjects, fmt.Sprintf("%s=%s", s.Name, s.Digest))
			}
			var predicate string
			if claim.Predicate != nil {
				var v json.RawMessage
				if err := json.Unmarshal(claim.Predicate, &v); err != nil {
					t.Fatal(err)
				}
				predicate = string(v)
			}
			if got := strings.Join(subjects, " "); got != c.subjects || claim.PredicateType != c.kind || predicate != c.predicate {
				t.Errorf("got %s, %q %s", got, claim.PredicateType, predicate)
			}
			for _, want := range []string{"id=statement-1 url=", "/statements/statement-1/bundle", `{"bundle":1}`, "/attestation-statement-1/attestation.json"} {
				if !strings.Contains(e.text(), want) {
					t.Errorf("the log lacks %q:\n%s", want, e.text())
				}
			}
		})
	}
}
