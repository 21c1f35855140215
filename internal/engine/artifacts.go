package engine

import (
	"context"
	"encoding/json"
	"io"

	"github.com/sallyport-ci/sallyport"
)

// artifacts implements sallyport.Artifacts.
type artifacts struct{ e *Engine }

func (s artifacts) Artifacts(ctx context.Context, id sallyport.RunID) ([]sallyport.Artifact, error) {
	if _, err := runs(s).run(ctx, actRead, id); err != nil {
		return nil, err
	}
	var out []sallyport.Artifact
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		out, err = tx.Artifacts().ByRun(id)
		return err
	})
	return out, err
}

func (s artifacts) Artifact(ctx context.Context, id sallyport.ArtifactID) (sallyport.Artifact, error) {
	return load(ctx, s.e, actRead, func(tx sallyport.Tx) (sallyport.Artifact, sallyport.ProjectID, error) {
		a, err := tx.Artifacts().Get(id)
		return a, a.Project, err
	})
}

func (s artifacts) FindArtifact(ctx context.Context, run sallyport.RunID, name string) (sallyport.Artifact, error) {
	if _, err := runs(s).run(ctx, actRead, run); err != nil {
		return sallyport.Artifact{}, err
	}
	var a sallyport.Artifact
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		a, err = tx.Artifacts().Find(run, name)
		return err
	})
	return a, err
}

func (s artifacts) Open(ctx context.Context, id sallyport.ArtifactID) (io.ReadCloser, error) {
	a, err := s.Artifact(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.e.blobs.Get(ctx, a.Scope(), a.Digest)
}

func (s artifacts) Statements(ctx context.Context, p sallyport.ProjectID, d sallyport.Digest) ([]sallyport.Statement, error) {
	if err := s.e.allow(ctx, actRead, p); err != nil {
		return nil, err
	}
	var out []sallyport.Statement
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		out, err = tx.Statements().BySubject(p, d)
		return err
	})
	return out, err
}

func (s artifacts) Bundle(ctx context.Context, id sallyport.StatementID) ([]byte, error) {
	st, err := load(ctx, s.e, actRead, func(tx sallyport.Tx) (sallyport.Statement, sallyport.ProjectID, error) {
		st, err := tx.Statements().Get(id)
		return st, st.Project, err
	})
	return st.Bundle, err
}

// Verify checks every statement about the digest. One that does not verify is an error.
func (s artifacts) Verify(ctx context.Context, p sallyport.ProjectID, d sallyport.Digest) ([]sallyport.Checked, error) {
	all, err := s.Statements(ctx, p, d)
	if err != nil {
		return nil, err
	}
	var out []sallyport.Checked
	for _, st := range all {
		c, err := s.e.check(st, d)
		if err != nil {
			return nil, sallyport.Errorf(sallyport.CodeConflict, "statement %s (%s) does not verify: %s", st.ID, st.PredicateType, userText(err))
		}
		out = append(out, c)
	}
	return out, nil
}

// check verifies a kept statement: that it still is the bundle that was kept,
// signed by the identity that it was kept for, about this digest.
func (e *Engine) check(st sallyport.Statement, d sallyport.Digest) (sallyport.Checked, error) {
	if e.verifier == nil {
		return sallyport.Checked{}, sallyport.Errorf(sallyport.CodeUnavailable, "this instance does not sign")
	}
	if sallyport.DigestOf(st.Bundle) != st.BundleDigest {
		return sallyport.Checked{}, sallyport.Errorf(sallyport.CodeInvalid, "the kept bundle was altered")
	}
	c, err := e.verifier.Verify(st.Bundle, d, st.Identity, e.instance.Issuer())
	if err == nil && c.PredicateType != st.PredicateType {
		err = sallyport.Errorf(sallyport.CodeInvalid, "the bundle is a %s", c.PredicateType)
	}
	return c, err
}

// readContent reads the kept content of an artifact to its end, which verifies it.
func (e *Engine) readContent(ctx context.Context, a sallyport.Artifact) error {
	r, err := e.blobs.Get(ctx, a.Scope(), a.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	d, n, err := sallyport.DigestReader(r)
	switch {
	case err != nil:
		return err
	case d != a.Digest || n != a.Size:
		return sallyport.Errorf(sallyport.CodeInvalid, "the content has digest %s, not %s", d, a.Digest)
	}
	return nil
}

func rawObject(b []byte) json.RawMessage {
	if len(b) == 0 {
		return json.RawMessage("null")
	}
	return b
}
