package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
)

const (
	// maxClaims bounds the statements that a job may have made: each stays for ever.
	maxClaims = 100
	// maxSubjectName and maxPredicateType bound what a job names.
	maxSubjectName   = 1024
	maxPredicateType = 512
)

// Attest signs what a job says, as the job's word: under the identity of jobs,
// which no gate takes for the builder's, each subject marked. How something was made the
// control plane writes itself; that it was this content which came of it is the job's word too.
func (y yard) Attest(ctx context.Context, l sallyport.LeaseRef, claim sallyport.Claim) (sallyport.Statement, error) {
	e := y.e
	var st sallyport.Statement
	if err := e.allow(ctx, actYard, ""); err != nil {
		return st, err
	}
	if err := checkClaim(claim); err != nil {
		return st, err
	}
	var in collected
	var refused error
	err := e.holding(ctx, l, func(c *change, _ sallyport.Work, j sallyport.Job) error {
		in, refused = collected{}, nil
		asked, err := c.Audit().List(sallyport.AuditFilter{Action: "claim.", Object: "job/" + string(j.ID), Limit: maxClaims})
		if err != nil {
			return err
		}
		if len(asked) >= maxClaims {
			return sallyport.Errorf(sallyport.CodeInvalid, "the job had %d claims signed", maxClaims).WithHint("name many subjects in one attestation")
		}
		if refused, err = e.claimRefused(c, j); err != nil {
			return err
		}
		if refused != nil {
			return c.record("claim.refused", "job/"+string(j.ID), map[string]any{"run": j.Run, "why": refused.Error()})
		}
		return in.load(c, j.ID)
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return st, err
	}
	statement, predicate, err := e.claimStatement(in, claim)
	if err != nil {
		return st, err
	}
	id := e.builderIdentity(in)
	id.SAN, id.BuildSigner = e.instance.JobIdentity(in.project.Name, in.run.Workflow, in.run.Ref), ""
	var subjects []sallyport.Digest
	for _, s := range claim.Subjects {
		subjects = append(subjects, s.Digest)
	}
	st, err = e.sign(ctx, id, statement, sallyport.Statement{
		Project: in.project.ID, Run: in.run.ID, PredicateType: predicate, Subjects: subjects,
	})
	if err != nil {
		return st, err
	}
	return st, e.holding(ctx, l, func(c *change, _ sallyport.Work, j sallyport.Job) error {
		if err := c.record("claim.signed", "job/"+string(j.ID), map[string]any{"run": j.Run, "statement": st.ID, "predicate": predicate}); err != nil {
			return err
		}
		return c.keepStatement(st)
	})
}

// claimRefused says why nothing is signed for a job; nil when something may be.
func (e *Engine) claimRefused(c *change, job sallyport.Job) (refused, err error) {
	if e.notary == nil {
		return sallyport.Errorf(sallyport.CodeDenied, "there is nothing here to sign with: a run outside an installation vouches for nothing").
			WithHint("run the workflow on an installation"), nil
	}
	s, err := e.loadSettlement(c, job.Run)
	if err != nil {
		return nil, err
	}
	f, pj, err := s.home(job.ID)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, scope := range []string{"id-token", "attestations"} {
		granted, err := f.grants(pj, scope, "write")
		if err != nil {
			return nil, err
		}
		if !granted {
			missing = append(missing, scope+": write")
		}
	}
	if len(missing) > 0 {
		return sallyport.Errorf(sallyport.CodeDenied, "the job may not attest: it lacks %s", strings.Join(missing, " and ")).
			WithHint("add it to the permissions of the job and of the jobs that call its workflow"), nil
	}
	return s.speaksFor(job, "attestations"), nil
}

// checkClaim bounds what a job wants said, and refuses what is not its to say.
func checkClaim(c sallyport.Claim) error {
	if len(c.Subjects) == 0 || len(c.Subjects) > attest.MaxSubjects {
		return sallyport.Errorf(sallyport.CodeInvalid, "an attestation is about 1 to %d subjects, not %d", attest.MaxSubjects, len(c.Subjects))
	}
	for _, s := range c.Subjects {
		if _, err := sallyport.ParseDigest(string(s.Digest)); err != nil {
			return err
		}
		if s.Name == "" || len(s.Name) > maxSubjectName || !plainWord(s.Name) {
			return sallyport.Errorf(sallyport.CodeInvalid, "the name of subject %s is not plain text of 1 to %d bytes", s.Digest.Short(), maxSubjectName)
		}
	}
	if c.PredicateType == "" {
		if len(c.Predicate) > 0 {
			return sallyport.Errorf(sallyport.CodeInvalid, "a predicate needs its type")
		}
		return nil
	}
	if u, err := url.Parse(c.PredicateType); err != nil || !u.IsAbs() || len(c.PredicateType) > maxPredicateType || !plainWord(c.PredicateType) {
		return sallyport.Errorf(sallyport.CodeInvalid, "the predicate type %.100q is not a URI", c.PredicateType)
	}
	if c.PredicateType == sallyport.PredicateProvenance {
		return sallyport.Errorf(sallyport.CodeDenied, "a job cannot write its own provenance").WithHint("leave the predicate out: the control plane writes it")
	}
	if sallyport.OwnPredicate(c.PredicateType) {
		return sallyport.Errorf(sallyport.CodeDenied, "statements of type %s are not a job's to make", c.PredicateType).WithHint("choose a predicate type of your own")
	}
	if t := bytes.TrimSpace(c.Predicate); !json.Valid(t) || t[0] != '{' {
		return sallyport.Errorf(sallyport.CodeInvalid, "the predicate is not a JSON object")
	}
	return nil
}

// plainWord reports whether s is text without control characters.
func plainWord(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func (e *Engine) claimStatement(in collected, c sallyport.Claim) (statement []byte, predicateType string, err error) {
	var subjects []attest.Subject
	for _, s := range c.Subjects {
		subjects = append(subjects, attest.Subject{Name: s.Name, Digest: s.Digest, AssertedBy: attest.AssertedByJob})
	}
	if c.PredicateType != "" {
		statement, err = attest.Statement(subjects, c.PredicateType, c.Predicate)
		return statement, c.PredicateType, err
	}
	p := e.provenance(in)
	p.Builder, p.Internal.AssertedBy = e.instance.BuilderID(attest.JobBuilder), attest.AssertedByJob
	statement, err = attest.Provenance(subjects, p)
	return statement, sallyport.PredicateProvenance, err
}
