package tlog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

func FuzzDecodeChunk(f *testing.F) {
	m := newMemory()
	m.append(3)
	f.Add(newChunk(m.records).encode())
	f.Add(newChunk(m.records[:1]).encode())
	f.Add([]byte(`{"v":1,"from":0,"to":0,"sha256":[]}`))
	f.Add([]byte(`{"v":1,"from":-1,"to":9223372036854775807,"sha256":["00"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeChunk(b)
		if err != nil {
			return
		}
		if !bytes.Equal(c.encode(), b) || len(b) > 65535 || int64(len(c.hashes)) != c.to-c.from+1 {
			t.Errorf("accepted %q", b)
		}
	})
}

// FuzzVerifyAudit feeds a checkpoint and a bundle of entries that nobody vouches
// for to a whole verification.
func FuzzVerifyAudit(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	m := newMemory()
	m.append(2)
	entry := newChunk(m.records).encode()
	bundle := append([]byte{byte(len(entry) >> 8), byte(len(entry))}, entry...)
	f.Add([]byte("audit.sallyport.localhost\n1\nAAAA\n\n— audit.sallyport.localhost AAAA\n"), bundle)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, checkpoint, bundle []byte) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "tile", "entries", "000.p"), 0o700); err != nil {
			t.Fatal(err)
		}
		for path, content := range map[string][]byte{"checkpoint": checkpoint, "tile/entries/000.p/1": bundle} {
			if err := os.WriteFile(filepath.Join(dir, path), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r, err := VerifyAudit(context.Background(), m, dir, auditOrigin, key.Public().(ed25519.PublicKey))
		if err != nil || r.OK {
			t.Errorf("report %+v, %v: nobody signed this", r, err)
		}
	})
}

func TestChunkLimits(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.append(maxChunk)
	m.records[0].Seq = 0
	c := newChunk(m.records)
	c.from += 1 << 61 // the longest numbers
	c.to += 1 << 61
	if b := c.encode(); len(b) > 65535 {
		t.Errorf("an entry of %d bytes does not fit the log", len(b))
	} else if d, err := decodeChunk(b); err != nil || d.from != c.from || len(d.hashes) != maxChunk {
		t.Errorf("decode: %v", err)
	}
	for name, text := range map[string]string{
		"white space":     `{"v": 1,"from":0,"to":0,"sha256":["` + string(bytes.Repeat([]byte("0"), 64)) + `"]}`,
		"another version": `{"v":2,"from":0,"to":0,"sha256":["` + string(bytes.Repeat([]byte("0"), 64)) + `"]}`,
		"upper case":      `{"v":1,"from":0,"to":0,"sha256":["` + string(bytes.Repeat([]byte("A"), 64)) + `"]}`,
		"wrong count":     `{"v":1,"from":0,"to":1,"sha256":["` + string(bytes.Repeat([]byte("0"), 64)) + `"]}`,
		"duplicate key":   `{"v":1,"v":1,"from":0,"to":0,"sha256":["` + string(bytes.Repeat([]byte("0"), 64)) + `"]}`,
		"empty":           `{"v":1,"from":0,"to":-1,"sha256":[]}`,
	} {
		if _, err := decodeChunk([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCommitmentCoversEveryField(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.append(1)
	base := m.records[0]
	seen := map[digest]string{Commitment(base): "base"}
	for name, change := range map[string]func(*sallyport.AuditRecord){
		"seq":             func(r *sallyport.AuditRecord) { r.Seq++ },
		"time":            func(r *sallyport.AuditRecord) { r.At = r.At.Add(1000) },
		"actor":           func(r *sallyport.AuditRecord) { r.Actor += "x" },
		"action":          func(r *sallyport.AuditRecord) { r.Action += "x" },
		"object":          func(r *sallyport.AuditRecord) { r.Object += "x" },
		"detail":          func(r *sallyport.AuditRecord) { r.Detail = nil },
		"salt":            func(r *sallyport.AuditRecord) { r.Salt = append([]byte{1}, r.Salt...) },
		"moved boundary":  func(r *sallyport.AuditRecord) { r.Actor, r.Action = r.Actor+r.Action[:1], r.Action[1:] },
		"moved boundary2": func(r *sallyport.AuditRecord) { r.Action, r.Object = r.Action+r.Object[:1], r.Object[1:] },
	} {
		r := base
		change(&r)
		c := Commitment(r)
		if other, ok := seen[c]; ok {
			t.Errorf("%s commits like %s", name, other)
		}
		seen[c] = name
	}
	marked := base
	marked.LogIndex = 5
	if Commitment(marked) != Commitment(base) {
		t.Error("the mark is part of the commitment")
	}
}
