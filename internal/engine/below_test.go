package engine

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// TestEnvironmentBelowItsRef has a run of the protected branch that a member or a stranger caused
// name an environment that only that branch may enter: the ref's name is not enough.
func TestEnvironmentBelowItsRef(t *testing.T) {
	t.Parallel()
	h := newCaching(t)
	h.commit = h.push("main", files{
		workflowFile:             "on: [push, issue_comment]\njobs:\n  a:\n    runs-on: ubuntu-latest\n    environment: staging\n    steps: [{run: make}]\n",
		".sallyport/deploy.yaml": "environments:\n  staging: {refs: [main]}\n",
	}).Commit
	h.finish(h.house.lease(), sallyport.Success, nil)
	below := release
	below.tier = sallyport.TierMember
	for name, c := range map[string]struct {
		origin cacheRun
		enters bool
	}{"a push": {release, true}, "caused by a member": {below, false}, "caused by a stranger": {stranger, false}} {
		runs, err := h.e.Trigger(h.admin, sallyport.Push{Project: h.p.ID, Event: c.origin.event, Ref: c.origin.ref, Commit: h.commit, Tier: c.origin.tier, Payload: []byte("{}")}, Selection{})
		check(t, err)
		_, jobs, err := h.s.Runs.Run(h.admin, runs[0].ID)
		check(t, err)
		refused := jobs[0].Conclusion == sallyport.Failure && strings.Contains(jobs[0].Cause, "may not enter environment staging: it has the code of refs/heads/main and is trusted less")
		if refused == c.enters {
			t.Errorf("%s: %s %q", name, jobs[0].Conclusion, jobs[0].Cause)
		}
		if c.enters {
			h.finish(h.house.lease(), sallyport.Success, nil)
		}
	}
}

// gallery has every image, and notes who asked for it without a name.
type gallery struct{ anonymous []bool }

func (g *gallery) Resolve(_ context.Context, reference string, anonymous bool) (sallyport.Image, error) {
	g.anonymous = append(g.anonymous, anonymous)
	return sallyport.Image{Reference: reference, Digest: sallyport.DigestOf([]byte(reference)), Anonymous: anonymous}, nil
}

func (*gallery) Layer(context.Context, sallyport.Image, sallyport.Digest) (io.ReadCloser, error) {
	return nil, sallyport.Errorf(sallyport.CodeNotFound, "no layers")
}

// TestImagesOfStrangers fetches images of runs that outsiders caused without the host's credentials.
func TestImagesOfStrangers(t *testing.T) {
	t.Parallel()
	g := &gallery{}
	h := newCaching(t, func(c *Config) { c.Images = g })
	for _, o := range []cacheRun{release, branch, ownPull, fork, stranger, target} {
		l := h.lend(o)
		g.anonymous = nil
		_, err := h.y.Image(h.runner, l.Ref, "registry.example/x:1")
		check(t, err)
		if want := o.tier == sallyport.TierUntrusted; len(g.anonymous) != 1 || g.anonymous[0] != want {
			t.Errorf("%s of tier %s: anonymous %v, want %v", o.event, o.tier, g.anonymous, want)
		}
	}
}
