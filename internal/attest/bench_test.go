package attest_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// BenchmarkBundle is one signer: from statement to finished bundle, with its
// log entry durable and proven.
func BenchmarkBundle(b *testing.B) {
	h, statement := newHouse(b), provenance(b)
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		h.sign(b, buildIdentity(), statement)
		took = append(took, time.Since(start))
	}
	report(b, took)
}

// BenchmarkBundle100 is a hundred signers at a time.
func BenchmarkBundle100(b *testing.B) {
	h, statement := newHouse(b), provenance(b)
	took := make([]time.Duration, b.N)
	work := make(chan int)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for i := range work {
				start := time.Now()
				h.sign(b, buildIdentity(), statement)
				took[i] = time.Since(start)
			}
		})
	}
	b.ResetTimer()
	for i := range b.N {
		work <- i
	}
	close(work)
	wg.Wait()
	b.StopTimer()
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "bundles/s")
}

func BenchmarkVerify(b *testing.B) {
	h := newHouse(b)
	bundle, subject := h.sign(b, buildIdentity(), provenance(b)), sallyport.DigestOf(artifact)
	for b.Loop() {
		if _, err := h.verifier.Verify(bundle, subject, buildIdentity().SAN, testInstance.Issuer()); err != nil {
			b.Fatal(err)
		}
	}
}
