package engine

import (
	"bytes"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// What an attempt had kept when its runner died must not stand in the way of the next.
func TestLostAttemptLeavesNoArtifact(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := h.run(head + "  a:\n" + step("a") + "  b:\n" + step("b"))
	first, other := h.lease(), h.lease()
	if first.Job.Key != "a" {
		first, other = other, first
	}
	put := func(l *sallyport.Lease, name, content string) sallyport.Artifact {
		t.Helper()
		a, err := h.y.PutArtifact(h.runner, l.Ref, name, bytes.NewReader(tarOf(t, tarFile{"f", content, 0o644})))
		check(t, err)
		return a
	}
	put(other, "other", "of another job")
	h.finish(other, sallyport.Success, nil)
	dropped := put(first, "app", "of the first attempt")
	check(t, h.e.RunnerGone(t.Context(), "r1"))
	h.pass(time.Second)
	second := h.lease()
	if second == nil || second.Job.Attempt != 2 {
		t.Fatalf("got lease %+v, want the second attempt", second)
	}
	kept := put(second, "app", "of the second attempt")
	h.finish(second, sallyport.Success, nil)
	h.want(id, "a=success b=success run=success")
	list, err := h.s.Artifacts.Artifacts(h.admin, id)
	check(t, err)
	if len(list) != 2 || list[0].ID != kept.ID || list[1].Name != "other" {
		t.Errorf("got artifacts %+v, want those of the second attempt and of the other job", list)
	}
	records, err := h.s.Audit.Records(h.admin, sallyport.AuditFilter{Action: "artifact.dropped"})
	check(t, err)
	if len(records) != 1 || records[0].Object != "artifact/"+string(dropped.ID) {
		t.Errorf("got records %+v, want one of the dropped artifact", records)
	}
}

// The work that a killed engine had in hand does not wait for its leases to run out.
func TestReconcileFreesWorkInHand(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := h.run(head + "  a:\n" + step("a"))
	l := h.lease()
	check(t, h.y.Finish(h.runner, l.Ref, sallyport.JobResult{Conclusion: sallyport.Success}))
	if w, _, err := h.e.claim(t.Context(), sallyport.QueueCollect); err != nil || w == nil { // and here it was killed
		t.Fatalf("claim: %v, %v", w, err)
	}
	check(t, h.e.Reconcile(t.Context()))
	h.work()
	h.want(id, "a=success run=success")
}
