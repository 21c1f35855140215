package engine

import (
	"context"
	"encoding/json"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
)

// sealCache has the control plane sign what it knows of an entry. An instance
// that does not sign keeps its entries unsigned.
func (e *Engine) sealCache(ctx context.Context, c *sallyport.CacheEntry) error {
	if e.notary == nil {
		return nil
	}
	statement, err := attest.CacheStatement(c.Digest, cachePredicate(*c))
	if err != nil {
		return err
	}
	san := e.instance.CacheIdentity()
	c.Signature, _, err = e.notary.Sign(ctx, e.now(), attest.Identity{SAN: san, BuildSigner: san}, statement)
	return err
}

func cachePredicate(c sallyport.CacheEntry) attest.CachePredicate {
	return attest.CachePredicate{
		Entry: c.ID, Project: c.Project, Key: c.Key, Version: c.Version, Ref: c.Ref, Tier: c.Tier, Size: c.Size, Run: c.Run, Job: c.Job, At: c.CreatedAt,
	}
}

// checkCache verifies that an entry is what was signed when it was saved, in
// every field that a decision is made from.
func (e *Engine) checkCache(c sallyport.CacheEntry) error {
	if e.notary == nil {
		return nil
	}
	checked, err := e.verifier.Verify(c.Signature, c.Digest, e.instance.CacheIdentity(), e.instance.Issuer())
	if err != nil {
		return err
	}
	var said attest.CachePredicate
	if checked.PredicateType != sallyport.PredicateCache || json.Unmarshal(checked.Predicate, &said) != nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "the signature is of something else")
	}
	kept := cachePredicate(c)
	if !said.At.Equal(kept.At) {
		return sallyport.Errorf(sallyport.CodeInvalid, "the entry is not the one that was signed")
	}
	if said.At = kept.At; said != kept {
		return sallyport.Errorf(sallyport.CodeInvalid, "the entry is not the one that was signed")
	}
	return nil
}
