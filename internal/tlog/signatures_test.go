package tlog

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sallyport-ci/sallyport"
)

const sigOrigin = "log.sallyport.localhost"

func signaturesConfig(dir string, key crypto.Signer) Config {
	return Config{Dir: dir, Origin: sigOrigin, Signer: key, Log: slog.New(slog.DiscardHandler)}
}

func openSignatures(t testing.TB, dir string, key ed25519.PrivateKey) *Signatures {
	t.Helper()
	s, err := OpenSignatures(t.Context(), signaturesConfig(dir, key))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// checkProof checks an answer of Append as a stranger would.
func checkProof(t testing.TB, s *Signatures, entry []byte, index int64, hashes [][]byte, checkpoint []byte) {
	t.Helper()
	head, err := openCheckpoint(checkpoint, s.verifier)
	if err != nil {
		t.Fatal(err)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), head.Size, rfc6962.DefaultHasher.HashLeaf(entry), hashes, head.Hash); err != nil {
		t.Error(err)
	}
}

func TestAppendProves(t *testing.T) {
	t.Parallel()
	s := openSignatures(t, filepath.Join(t.TempDir(), "sig"), newKey(t))
	const signers, each = 40, 20 // beyond one bundle of 256
	var mu sync.Mutex
	seen := map[int64]bool{}
	var wg sync.WaitGroup
	for w := range signers {
		wg.Go(func() {
			for i := range each {
				entry := fmt.Appendf(nil, "entry %d of %d", i, w)
				index, hashes, checkpoint, err := s.Append(t.Context(), entry)
				if err != nil {
					t.Error(err)
					return
				}
				checkProof(t, s, entry, index, hashes, checkpoint)
				mu.Lock()
				if seen[index] {
					t.Errorf("index %d twice", index)
				}
				seen[index] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != signers*each {
		t.Errorf("%d entries, want %d", len(seen), signers*each)
	}
}

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	s := openSignatures(t, filepath.Join(t.TempDir(), "sig"), newKey(t))
	if _, _, _, err := s.Append(t.Context(), make([]byte, 1<<16)); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("too large an entry: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, _, _, err := s.Append(ctx, []byte("x")); err != nil && sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("cancelled: %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := s.Append(t.Context(), []byte("x")); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("closed: %v", err)
	}
}

func TestCloseDrains(t *testing.T) {
	t.Parallel()
	dir, key := filepath.Join(t.TempDir(), "sig"), newKey(t)
	s := openSignatures(t, dir, key)
	var wg sync.WaitGroup
	added := make(chan int64, 64)
	for i := range 64 {
		wg.Go(func() {
			index, _, _, err := s.Append(t.Context(), fmt.Appendf(nil, "%d", i))
			if err == nil {
				added <- index
			} else if sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
				t.Error(err)
			}
		})
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	close(added)
	again := openSignatures(t, dir, key)
	head, err := again.published(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for index := range added {
		if uint64(index) >= head.Size {
			t.Errorf("entry %d is not under the published head of %d", index, head.Size)
		}
	}
}

func TestOpenRefusesForeignKeys(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "sig")
	s := openSignatures(t, dir, newKey(t))
	if _, _, _, err := s.Append(t.Context(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSignatures(t.Context(), signaturesConfig(dir, newKey(t))); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("another key opened the log: %v", err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, signer := range map[string]crypto.Signer{"ECDSA": ec, "none": nil} {
		if _, err := OpenSignatures(t.Context(), signaturesConfig(filepath.Join(t.TempDir(), "x"), signer)); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// TestTamperedTreeIsNotSigned changes the log on disk behind an open log: it
// must not sign a head that contradicts what it signed before.
func TestTamperedTreeIsNotSigned(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "sig")
	s := openSignatures(t, dir, newKey(t))
	for i := range 5 {
		if _, _, _, err := s.Append(t.Context(), fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	tile := filepath.Join(dir, "tile", "0", "000.p", "5")
	b, err := os.ReadFile(tile)
	if err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if err := os.WriteFile(tile, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := s.Append(t.Context(), []byte("next")); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("Append = %v, want CodeConflict", err)
	}
}

func TestReopenContinues(t *testing.T) {
	t.Parallel()
	dir, key := filepath.Join(t.TempDir(), "sig"), newKey(t)
	var heads [][]byte
	for i := range 3 {
		s := openSignatures(t, dir, key)
		entry := fmt.Appendf(nil, "%d", i)
		index, hashes, checkpoint, err := s.Append(t.Context(), entry)
		if err != nil || index != int64(i) {
			t.Fatalf("index %d, %v; want %d", index, err, i)
		}
		checkProof(t, s, entry, index, hashes, checkpoint)
		heads = append(heads, checkpoint)
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		published, err := s.Checkpoint(t.Context())
		if err != nil || !bytes.HasPrefix(published, []byte(sigOrigin+"\n")) {
			t.Errorf("published %q, %v", published, err)
		}
	}
	if bytes.Equal(heads[0], heads[1]) {
		t.Error("the head did not move")
	}
}
