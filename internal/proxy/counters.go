package proxy

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// counters of one backend. Requests that were sent before the counters were
// replaced are counted in the old ones.
type counters struct {
	requests, errors, streak atomic.Int64
	latency                  histogram
}

// answered counts a request at the header of its answer.
func (c *counters) answered(took time.Duration, failed bool) {
	c.requests.Add(1)
	c.latency.add(took)
	if failed {
		c.brokeOff()
	}
}

// whole says that an answer arrived to its end, which ends a run of errors.
func (c *counters) whole() { c.streak.Store(0) }

func (c *counters) unanswered() {
	c.requests.Add(1)
	c.brokeOff()
}

// brokeOff counts an error of a request that is counted already.
func (c *counters) brokeOff() {
	c.errors.Add(1)
	c.streak.Add(1)
}

func (c *counters) traffic() sallyport.Traffic {
	return sallyport.Traffic{
		Requests: c.requests.Load(), Errors: c.errors.Load(), ErrorsInARow: c.streak.Load(),
		P95: c.latency.quantile(95),
	}
}

// histogram counts durations in buckets that are at most an eighth wide:
// of each power of two of microseconds eight parts. Its size is fixed.
type histogram struct{ buckets [buckets]atomic.Int64 }

const (
	parts   = 8
	octaves = 36 // 2^38 µs is three days
	buckets = octaves * parts
)

func bucketOf(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0))
	if us < parts {
		return int(us)
	}
	exp := bits.Len64(us) - 4 // us>>exp is within 8 and 15
	return min(exp*parts+int(us>>exp), buckets-1)
}

// top is the upper bound of bucket i.
func top(i int) time.Duration {
	if i < parts {
		return time.Duration(i+1) * time.Microsecond
	}
	exp := i/parts - 1
	return time.Duration(uint64(i%parts+parts+1)<<exp) * time.Microsecond
}

func (h *histogram) add(d time.Duration) { h.buckets[bucketOf(d)].Add(1) }

// quantile returns an upper bound of the percent-th percentile, 0 for none.
func (h *histogram) quantile(percent int64) time.Duration {
	var counts [buckets]int64
	var total int64
	for i := range counts {
		counts[i] = h.buckets[i].Load()
		total += counts[i]
	}
	rank := (total*percent + 99) / 100
	for i, n := range counts {
		if rank -= n; n > 0 && rank <= 0 {
			return top(i)
		}
	}
	return 0
}
