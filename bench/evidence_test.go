package bench

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
	"github.com/sallyport-ci/sallyport/internal/engine"
	"github.com/sallyport-ci/sallyport/internal/tlog"
)

// BenchmarkBundle is from a statement to its finished bundle: certificate,
// signature, timestamp, durable log entry and its proof, by 1, 10 and 100 signers at
// a time. The floor is one signature with the key of the log.
func BenchmarkBundle(b *testing.B) {
	for _, signers := range []int{1, 10, 100} {
		b.Run(fmt.Sprint("signers=", signers), func(b *testing.B) {
			h := newHouse(b)
			ref, commit := "refs/heads/main", "0123456789abcdef0123456789abcdef01234567"
			id := attest.Identity{SAN: instance.BuildIdentity("bench", workflowFile, ref), SourceDigest: commit, SourceRef: ref, Trigger: "push"}
			start := time.Now()
			statement := must[[]byte](b)(attest.Provenance([]attest.Subject{{Name: "artifact", Digest: sallyport.DigestOf([]byte("content"))}}, attest.ProvenanceInput{
				Builder: instance.BuilderID("standard"), Invocation: instance.Job("run", "job"), Started: start, Finished: start,
				External: attest.ExternalParameters{Workflow: attest.WorkflowSource{
					Repository: instance.Repository("bench"), Ref: ref, Path: workflowFile, Digest: attest.SHA256(sallyport.DigestOf([]byte("workflow"))),
				}, Event: "push", Payload: attest.SHA256(sallyport.DigestOf([]byte("{}"))), Job: "build"},
				Internal: attest.InternalParameters{Plan: attest.SHA256(sallyport.DigestOf([]byte("plan"))), Tier: sallyport.TierProtected, Runner: "r", Attempt: 1,
					Isolation: sallyport.Isolation{Level: "standard", Runtime: "runc", Network: "none"}},
				Dependencies: []attest.Resource{{Name: "source", URI: "git+" + instance.Repository("bench") + "@" + ref, Digest: attest.GitCommit(commit)}},
			}))
			took := make([]time.Duration, b.N)
			b.ResetTimer()
			all := share(b, signers, b.N, func(i int) error {
				start := time.Now()
				_, _, err := h.notary.Sign(b.Context(), start, id, statement)
				took[i-1] = time.Since(start)
				return err
			})
			b.StopTimer()
			reportTimes(b, "bundle", took)
			b.ReportMetric(float64(b.N)/all.Seconds(), "bundles/s")

			signer, err := h.keys.Signer(b.Context(), sallyport.KeySigLog)
			check(b, err)
			var floor []time.Duration
			for range 100 {
				start := time.Now()
				_ = must[[]byte](b)(signer.Sign(nil, statement, &ed25519.Options{}))
				floor = append(floor, time.Since(start))
			}
			slices.Sort(floor)
			b.ReportMetric(ms(quantile(floor, 50)), "signature-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkAudit appends records in a durable transaction each, 64 callers at a
// time, while the sequencer enters them in the log, until the log holds all. The
// floor is the transactions without a sequencer.
func BenchmarkAudit(b *testing.B) {
	h := newHouse(b)
	add := func(i int) error {
		return h.store.Update(b.Context(), func(tx sallyport.Tx) error {
			tx.Touch("audit")
			_, err := tx.Audit().Append(sallyport.AuditRecord{At: time.Now(), Actor: "person:ada", Action: "run.created",
				Object: fmt.Sprint("run/", i), Detail: []byte(`{"ref":"refs/heads/main"}`), Salt: make([]byte, 16), LogIndex: -1})
			return err
		})
	}
	signer, err := h.keys.Signer(b.Context(), sallyport.KeyAudit)
	check(b, err)
	ledger := engine.NewLedger(h.store)
	sequencer := must[*tlog.Sequencer](b)(tlog.OpenSequencer(b.Context(), tlog.Config{
		Dir: filepath.Join(h.dir, "auditlog"), Origin: instance.AuditOrigin(), Signer: signer, Log: silent}, ledger))
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	floor := share(b, 64, b.N, add)
	signal, unwatch := ledger.Watch()
	defer unwatch()

	b.ResetTimer()
	start := time.Now()
	go func() { ended <- sequencer.Run(ctx) }()
	share(b, 64, b.N, add)
	written := time.Since(start)
	sequencer.Wake()
	for {
		records, logged, err := ledger.Count(b.Context())
		check(b, err)
		if logged == records {
			break
		}
		sequencer.Wake()
		select {
		case <-signal:
		case <-time.After(10 * time.Millisecond):
		}
	}
	all := time.Since(start)
	b.StopTimer()
	stop()
	<-ended
	check(b, sequencer.Close(context.Background()))
	// The floor's records are entered too: two for each that is counted.
	b.ReportMetric(float64(b.N)/written.Seconds(), "records/s")
	b.ReportMetric(2*float64(b.N)/all.Seconds(), "logged/s")
	b.ReportMetric(float64(b.N)/floor.Seconds(), "floor/s")
	b.ReportMetric(floor.Seconds()/written.Seconds(), "of-floor")
	b.ReportMetric(0, "ns/op")
}
