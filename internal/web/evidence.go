package web

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// evidence is the way of an artifact from its commit to where it runs, with
// who vouches for each part of it.
type evidence struct {
	Run         sallyport.Run
	Job         sallyport.Job
	Statements  []statementView
	Provenance  *statementView // the first that was verified; nil for none
	Fault       string         // why the statements could not be verified
	Builder     builder
	Verdicts    []sallyport.Verdict
	Deployments []sallyport.Deployment
	Missing     []string
}

// statementView is a statement with what its verification said just now.
type statementView struct {
	sallyport.Statement
	About   string             // name of the artifact, on a run's page
	Checked *sallyport.Checked // nil: it was not verified
}

// builder is what the provenance says of the build, in the control plane's word.
type builder struct {
	ID        string
	BuildType string
	Materials []material
	Commits   []string // git commits among all materials
}

// material is one thing that the build took in.
type material struct{ URI, Digest string }

// Verified counts the statements that verified just now.
func (e evidence) Verified() int {
	n := 0
	for _, st := range e.Statements {
		if st.Checked != nil {
			n++
		}
	}
	return n
}

// NamesCommit reports whether the verified provenance names the run's commit as a source.
func (e evidence) NamesCommit() bool { return slices.Contains(e.Builder.Commits, e.Run.Commit) }

// evidence gathers the chain of an artifact and verifies every statement in it.
func (s *server) evidence(ctx context.Context, p sallyport.Project, a sallyport.Artifact) evidence {
	var e evidence
	miss := func(what string, err error) {
		if m := s.missing(ctx, what, err); m != "" {
			e.Missing = append(e.Missing, m)
		}
	}
	run, jobs, err := s.Runs.Run(ctx, a.Run)
	miss("run", err)
	e.Run = run
	if i := slices.IndexFunc(jobs, func(j sallyport.Job) bool { return j.ID == a.Job }); i >= 0 {
		e.Job = jobs[i]
	}
	statements, err := s.Artifacts.Statements(ctx, p.ID, a.Digest)
	miss("statements", err)
	checked, err := s.Artifacts.Verify(ctx, p.ID, a.Digest)
	if err != nil {
		e.Fault = s.missing(ctx, "verification", err)
	}
	e.match(statements, checked)
	verdicts, err := s.Gates.Verdicts(ctx, p.ID, sallyport.Page{Limit: 200})
	miss("verdicts", err)
	e.Verdicts = slices.DeleteFunc(verdicts, func(d sallyport.Verdict) bool { return d.Subject != a.Digest })
	deployments, err := s.Deployments.Deployments(ctx, p.ID, "", sallyport.Page{Limit: 200})
	miss("deployments", err)
	e.Deployments = slices.DeleteFunc(deployments, func(d sallyport.Deployment) bool { return d.Digest != a.Digest })
	return e
}

// match puts each statement together with the outcome of its verification.
func (e *evidence) match(statements []sallyport.Statement, checked []sallyport.Checked) {
	for _, st := range statements {
		sv := statementView{Statement: st}
		for i := range checked {
			if c := &checked[i]; c.LogIndex == st.LogIndex && c.PredicateType == st.PredicateType {
				sv.Checked = c
			}
		}
		e.Statements = append(e.Statements, sv)
		if e.Provenance == nil && sv.Checked != nil && st.PredicateType == sallyport.PredicateProvenance && !st.AssertedByJob() {
			e.Provenance = &sv
			e.Builder = readBuilder(sv.Checked.Predicate)
		}
	}
}

const maxMaterials = 12 // shown of a build

// readBuilder takes from a provenance what the page shows (SLSA v1, buildDefinition and
// runDetails). The predicate was signed by us, yet part of it is the job's word: text only.
func readBuilder(predicate []byte) builder {
	var p struct {
		BuildDefinition struct {
			BuildType            string `json:"buildType"`
			ResolvedDependencies []struct {
				URI    string            `json:"uri"`
				Name   string            `json:"name"`
				Digest map[string]string `json:"digest"`
			} `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		RunDetails struct {
			Builder struct {
				ID string `json:"id"`
			} `json:"builder"`
		} `json:"runDetails"`
	}
	if json.Unmarshal(predicate, &p) != nil {
		return builder{}
	}
	b := builder{ID: p.RunDetails.Builder.ID, BuildType: p.BuildDefinition.BuildType}
	for _, d := range p.BuildDefinition.ResolvedDependencies {
		if c := d.Digest["gitCommit"]; c != "" {
			b.Commits = append(b.Commits, c)
		}
		if len(b.Materials) == maxMaterials {
			continue
		}
		m := material{URI: d.URI}
		if m.URI == "" {
			m.URI = d.Name
		}
		for algorithm, hex := range d.Digest {
			m.Digest = algorithm + ":" + cut(hex, 16)
		}
		b.Materials = append(b.Materials, m)
	}
	return b
}

// commands are lines to paste into a shell, with which a stranger checks the artifact.
type commands struct {
	Digest                      string
	Download, Sallyport, Cosign string
	Bundle                      sallyport.StatementID // the provenance's
}

// commands builds the lines; where there is no provenance to check, the digest's alone.
func (s *server) commands(ctx context.Context, p sallyport.Project, a sallyport.Artifact, e evidence) commands {
	i := slices.IndexFunc(e.Statements, func(st statementView) bool {
		return st.PredicateType == sallyport.PredicateProvenance && !st.AssertedByJob()
	})
	file, bundle := localName(a.Filename), localName(a.Name+".sigstore.json")
	c := commands{Digest: shell("sha256sum", file)}
	if i < 0 {
		return c
	}
	st := e.Statements[i]
	identity, issuer := st.Identity, ""
	if st.Checked != nil {
		identity, issuer = st.Checked.Identity, st.Checked.Issuer
	} else if iss, id, err := s.Instance.Identity(ctx, p.Name, e.Run.Workflow, e.Run.Ref); err == nil {
		identity, issuer = id, iss
	}
	c.Bundle = st.ID
	c.Download = shell("sallyport", "artifacts", "download", string(a.Run), a.Name, "--out", ".")
	c.Sallyport = shell("sallyport", "verify", file, "--bundle", bundle, "--trusted-root", "trusted_root.json", "--identity", identity, "--issuer", issuer)
	c.Cosign = shell("cosign", "verify-blob-attestation", "--bundle", bundle, "--trusted-root", "trusted_root.json",
		"--certificate-identity", identity, "--certificate-oidc-issuer", issuer, "--type", "slsaprovenance1", file)
	return c
}

// localName keeps a file's name from being read as an option.
func localName(name string) string {
	if strings.HasPrefix(name, "-") {
		return "./" + name
	}
	return name
}

// shell quotes an argv for a POSIX shell: names come from jobs, and people paste this.
func shell(argv ...string) string {
	quoted := make([]string, len(argv))
	for i, a := range argv {
		quoted[i] = a
		if a == "" || strings.Trim(a, shellSafe) != "" {
			quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

const shellSafe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-"
