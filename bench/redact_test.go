package bench

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/sallyport-ci/sallyport/internal/redact"
)

// BenchmarkRedact masks log text with 200 secrets in it, by processor time,
// beside copying the same text in memory.
func BenchmarkRedact(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	set := redact.New(redact.Config{})
	var secrets []string
	for range 200 {
		s := make([]byte, 16+r.IntN(48))
		for i := range s {
			s[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[r.IntN(64)]
		}
		secrets = append(secrets, string(s))
		check(b, set.Add(string(s)))
	}
	var text bytes.Buffer
	for i := 0; text.Len() < 16<<20; i++ {
		fmt.Fprintf(&text, "2026-01-02T15:04:05.%07dZ [info] compiling package %d of example.com/project/internal/part%x in %dms cache=%x\n",
			r.IntN(1e7), i, r.Uint32(), r.IntN(1000), r.Uint64())
		if i%400 == 0 {
			text.WriteString("leak: " + secrets[r.IntN(len(secrets))] + "\n")
		}
	}
	w, to := set.NewWriter(io.Discard), make([]byte, 64<<10)
	var masked, copied float64
	for b.Loop() {
		before := cpuTime(b, syscall.RUSAGE_SELF)
		for part := text.Bytes(); len(part) > 0; part = part[min(len(part), len(to)):] {
			_ = must[int](b)(w.Write(part[:min(len(part), len(to))]))
		}
		check(b, w.Flush())
		between := cpuTime(b, syscall.RUSAGE_SELF)
		for range 10 { // one pass is too short for the clock
			for part := text.Bytes(); len(part) > 0; part = part[min(len(part), len(to)):] {
				copy(to, part)
			}
		}
		after := cpuTime(b, syscall.RUSAGE_SELF)
		masked = max(masked, float64(text.Len())/1e6/(between-before).Seconds())
		copied = max(copied, 10*float64(text.Len())/1e6/(after-between).Seconds())
	}
	b.ReportMetric(masked, "MB/s")
	b.ReportMetric(copied, "copy-MB/s")
	b.ReportMetric(masked/copied, "of-copy")
	b.ReportMetric(0, "ns/op")
}
