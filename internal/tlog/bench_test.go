package tlog

import (
	"fmt"
	"path/filepath"
	"testing"

	"crypto/ed25519"
)

// BenchmarkAppend is one signer who waits for each proof.
func BenchmarkAppend(b *testing.B) {
	s := openSignatures(b, filepath.Join(b.TempDir(), "sig"), newKey(b))
	entry := make([]byte, 2048)
	for i := 0; b.Loop(); i++ {
		copy(entry, fmt.Sprint(i))
		if _, _, _, err := s.Append(b.Context(), entry); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSequencer brings records into the log and marks them; one
// operation is 50,000 records.
func BenchmarkSequencer(b *testing.B) {
	const n = 50_000
	for b.Loop() {
		b.StopTimer()
		m := newMemory()
		m.append(n)
		cfg := auditConfig(filepath.Join(b.TempDir(), "audit"), newKey(b))
		b.StartTimer()
		_, stop := session(b, cfg, m)
		m.awaitLogged(b)
		b.StopTimer()
		if err := stop(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkVerifyAudit checks a trail of 50,000 records.
func BenchmarkVerifyAudit(b *testing.B) {
	const n = 50_000
	m, dir, key := newMemory(), filepath.Join(b.TempDir(), "audit"), newKey(b)
	m.append(n)
	_, stop := session(b, auditConfig(dir, key), m)
	m.awaitLogged(b)
	if err := stop(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if r, err := VerifyAudit(b.Context(), m, dir, auditOrigin, key.Public().(ed25519.PublicKey)); err != nil || !r.OK {
			b.Fatalf("%+v, %v", r, err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
