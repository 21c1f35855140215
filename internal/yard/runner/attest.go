package runner

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

const (
	// maxSubjects bounds what one attestation is about, as GitHub's action does.
	maxSubjects = 1024
	// maxPredicate bounds the document that a job attests: the statement is kept whole.
	maxPredicate = 900 << 10
	// maxChecksums bounds a list of checksums.
	maxChecksums = 1 << 20
)

// claim has something signed as the job's word: actions/attest and its kin. The
// control plane decides whether the job may, and writes itself how things were made.
func (s *step) claim(ctx context.Context, action string, in inputs) error {
	for _, name := range []string{"push-to-registry", "create-storage-record"} {
		if on, err := in.boolean(name, false); err != nil {
			return err
		} else if on && name == "push-to-registry" {
			return sallyport.Errorf(sallyport.CodeInvalid, "the input %s is not available: attestations are kept beside the run", name).WithHint("remove it")
		}
	}
	summary, err := in.boolean("show-summary", true)
	if err != nil {
		return err
	}
	var claim sallyport.Claim
	if claim.Subjects, err = s.subjects(in); err != nil {
		return err
	}
	if claim.PredicateType, claim.Predicate, err = s.predicate(action, in); err != nil {
		return err
	}
	// The provenance names the isolation, of which reports may not have told yet.
	j := s.job
	j.mu.Lock()
	report := sallyport.JobReport{Steps: j.snapshot(), Isolation: j.isolation}
	j.mu.Unlock()
	var st sallyport.Statement
	err = retry(ctx, func() (err error) {
		if err = j.runner.cfg.Yard.Report(ctx, j.lease.Ref, report); err == nil {
			st, err = j.runner.cfg.Yard.Attest(ctx, j.lease.Ref, claim)
		}
		return err
	})
	if err != nil {
		return err
	}
	bundle, err := s.keepBundle(ctx, st)
	if err != nil {
		return err
	}
	server, _ := s.frame.scope.Get("github").Get("server_url")
	address := server.String() + "/statements/" + string(st.ID) + "/bundle"
	s.out.print(sallyport.LogOutput, fmt.Sprintf("Attested %d subjects as the job's word, log entry %d: %s", len(claim.Subjects), st.LogIndex, address))
	if summary {
		var b strings.Builder
		fmt.Fprintf(&b, "### Attestation\n\n[%s](%s), signed as `%s`\n\n", cmp.Or(claim.PredicateType, "SLSA provenance"), address, st.Identity)
		for _, x := range claim.Subjects[:min(len(claim.Subjects), 20)] {
			fmt.Fprintf(&b, "- `%s` %s\n", strings.ReplaceAll(x.Name, "`", "'"), x.Digest)
		}
		j.takeSummary(s, []byte(b.String()))
	}
	for _, x := range []workflow.Var{
		{Name: "bundle-path", Value: bundle}, {Name: "attestation-id", Value: string(st.ID)}, {Name: "attestation-url", Value: address},
	} {
		if err := s.setOutput(x); err != nil {
			return err
		}
	}
	return nil
}

// keepBundle writes the bundle into the room and adds it to the list of those of the job,
// where GitHub's action has it.
func (s *step) keepBundle(ctx context.Context, st sallyport.Statement) (string, error) {
	temp := s.job.layout.temp()
	file := path.Join(temp, "attestation-"+string(st.ID), "attestation.json")
	err := s.tool(ctx, sallyport.ExecSpec{
		Argv: []string{"sh", "-ec", `mkdir -p -- "${1%/*}" && cat >"$1" && printf '%s\n' "$1" >>"$2"`, "sh", file, path.Join(temp, "created_attestation_paths.txt")},
		// A bundle a line, as in GitHub's files.
		Stdin: bytes.NewReader(append(bytes.TrimSpace(st.Bundle), '\n')),
	})
	return file, err
}

// subjects are what the attestation is about, by exactly one of the three inputs.
func (s *step) subjects(in inputs) ([]sallyport.ClaimSubject, error) {
	paths, digest, sums, name := in.text("subject-path", ""), in.text("subject-digest", ""), in.text("subject-checksums", ""), in.text("subject-name", "")
	given := 0
	for _, v := range []string{paths, digest, sums} {
		if v != "" {
			given++
		}
	}
	if given != 1 {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "give exactly one of subject-path, subject-digest and subject-checksums")
	}
	var out []sallyport.ClaimSubject
	var err error
	switch {
	case digest != "":
		d, perr := sallyport.ParseDigest(digest)
		if perr != nil {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "subject-digest is %.80q; it must be sha256: and 64 hexadecimal digits", digest)
		}
		if name == "" {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "subject-digest needs subject-name").WithHint("say what the digest is of")
		}
		out = []sallyport.ClaimSubject{{Name: name, Digest: d}}
	case sums != "":
		out, err = s.checksums(sums)
	default:
		out, err = s.subjectFiles(paths, name)
	}
	if err != nil {
		return nil, err
	}
	out = slices.CompactFunc(out, func(a, b sallyport.ClaimSubject) bool { return a == b })
	if len(out) > maxSubjects {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%d subjects are more than %d", len(out), maxSubjects).WithHint("attest an archive or a list of checksums of them")
	}
	return out, nil
}

// subjectFiles hashes the files that lines or commas name, as the job has them now.
func (s *step) subjectFiles(paths, name string) ([]sallyport.ClaimSubject, error) {
	l := s.job.layout
	lines := strings.FieldsFunc(paths, func(r rune) bool { return r == '\n' || r == ',' })
	f, err := l.find(lines, true)
	if err != nil {
		return nil, err
	}
	if len(f.files) == 0 {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "subject-path matches no file: %.200s", strings.Join(lines, ", "))
	}
	if len(f.files) > maxSubjects {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "subject-path matches %d files, more than %d", len(f.files), maxSubjects).
			WithHint("attest an archive or a list of checksums of them")
	}
	var out []sallyport.ClaimSubject
	for _, file := range f.files {
		r, _, err := openRegular(l.workRoot, file)
		if err != nil {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "read %.200q: %w", file, err)
		}
		d, _, err := sallyport.DigestReader(r)
		_ = r.Close()
		if err != nil {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "read %.200q: %w", file, err)
		}
		out = append(out, sallyport.ClaimSubject{Name: cmp.Or(name, path.Base(file)), Digest: d})
	}
	return out, nil
}

// checksumLine is a line as sha256sum prints it.
var checksumLine = regexp.MustCompile(`^([0-9A-Fa-f]+)[ \t]+\*?(\S.*)$`)

// checksums reads a file of checksums, or the text of one.
func (s *step) checksums(text string) ([]sallyport.ClaimSubject, error) {
	if !strings.ContainsAny(text, "\n") && !checksumLine.MatchString(text) {
		b, err := s.job.layout.readRoom(s.job.layout.inWorkspace(text), maxChecksums)
		if err != nil {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "the checksums in %.200q cannot be read: %v", text, err)
		}
		text = string(b)
	}
	var out []sallyport.ClaimSubject
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		m := checksumLine.FindStringSubmatch(line)
		if m == nil || len(m[1]) != 64 {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "line %d of the checksums, %.100q, is not a SHA-256 and a name", n, line).WithHint("make the list with sha256sum")
		}
		if len(out) > maxSubjects {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "the checksums name more than %d subjects", maxSubjects)
		}
		out = append(out, sallyport.ClaimSubject{Name: m[2], Digest: sallyport.Digest("sha256:" + strings.ToLower(m[1]))})
	}
	if len(out) == 0 {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the checksums are empty")
	}
	return out, nil
}

// predicate is what the job says of the subjects; nothing for provenance.
func (s *step) predicate(action string, in inputs) (string, json.RawMessage, error) {
	kind, text, file, sbom := in.text("predicate-type", ""), in.text("predicate", ""), in.text("predicate-path", ""), in.text("sbom-path", "")
	if action == "actions/attest-build-provenance" {
		return "", nil, nil
	}
	read := func(file string) (json.RawMessage, error) {
		b, err := s.job.layout.readRoom(s.job.layout.inWorkspace(file), maxPredicate)
		if err != nil {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "%.200q cannot be read: %w", file, err)
		}
		return b, nil
	}
	if action == "actions/attest-sbom" || sbom != "" {
		if sbom == "" || kind+text+file != "" {
			return "", nil, sallyport.Errorf(sallyport.CodeInvalid, "an SBOM is attested by the input sbom-path alone")
		}
		b, err := read(sbom)
		if err != nil {
			return "", nil, err
		}
		kind, err = sbomType(b)
		return kind, b, err
	}
	if kind == "" && text+file == "" {
		return "", nil, nil
	}
	if kind == "" || (text == "") == (file == "") {
		return "", nil, sallyport.Errorf(sallyport.CodeInvalid, "a predicate of your own needs predicate-type and one of predicate and predicate-path").
			WithHint("leave all three out to attest how the subjects were made")
	}
	body := json.RawMessage(text)
	if file != "" {
		var err error
		if body, err = read(file); err != nil {
			return "", nil, err
		}
	}
	if len(body) > maxPredicate || !json.Valid(body) {
		return "", nil, sallyport.Errorf(sallyport.CodeInvalid, "the predicate is not a JSON object of at most %d KiB", maxPredicate>>10)
	}
	return kind, body, nil
}

// sbomType is the predicate type of an SBOM, by its own word.
func sbomType(b []byte) (string, error) {
	var doc struct {
		SPDXVersion string `json:"spdxVersion"`
		SPDXID      string `json:"SPDXID"`
		BOMFormat   string `json:"bomFormat"`
		SpecVersion string `json:"specVersion"`
	}
	if json.Unmarshal(b, &doc) == nil {
		version, ok := strings.CutPrefix(doc.SPDXVersion, "SPDX-")
		if _, err := strconv.ParseFloat(version, 64); ok && err == nil && doc.SPDXID != "" {
			return "https://spdx.dev/Document/v" + version, nil
		}
		if doc.BOMFormat == "CycloneDX" && doc.SpecVersion != "" {
			return "https://cyclonedx.org/bom", nil
		}
	}
	return "", sallyport.Errorf(sallyport.CodeInvalid, "the SBOM is neither SPDX nor CycloneDX in JSON")
}
