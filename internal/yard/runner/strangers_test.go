package runner

import (
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

func TestRunsForStrangers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		event string
		tier  sallyport.Tier
		want  bool
	}{
		{"push", sallyport.TierMember, false}, {"push", sallyport.TierProtected, false}, {"pull_request", sallyport.TierUntrusted, false},
		{"pull_request_target", sallyport.TierUntrusted, true}, {"pull_request_target", sallyport.TierMember, true},
		{"issue_comment", sallyport.TierUntrusted, true}, {"workflow_run", sallyport.TierUntrusted, true}, {"workflow_run", sallyport.TierMember, false},
		{"schedule", sallyport.TierProtected, false}, {"something new", "", false}, {"something new", sallyport.TierUntrusted, true},
	} {
		if got := runsForStrangers(sallyport.Run{Event: c.event, Tier: c.tier}); got != c.want {
			t.Errorf("%s of tier %s: got %v", c.event, c.tier, got)
		}
	}
}
