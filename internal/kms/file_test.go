package kms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/kms"
)

func open(t testing.TB, dir string) *kms.File {
	t.Helper()
	f, err := kms.OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func created(t testing.TB) (*kms.File, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	f := open(t, dir)
	if err := f.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f, dir
}

func TestKeysSurviveReopening(t *testing.T) {
	t.Parallel()
	f, dir := created(t)
	sealed, err := f.Seal(t.Context(), []byte("value"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	g := open(t, dir)
	if err := g.Create(t.Context()); err != nil { // must not replace anything
		t.Fatal(err)
	}
	for _, id := range []sallyport.KeyID{sallyport.KeyCA, sallyport.KeyIssuer, sallyport.KeySCT, sallyport.KeyTSA, sallyport.KeySigLog, sallyport.KeyAudit} {
		a, err := f.Signer(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		b, err := g.Signer(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		pa, _ := x509.MarshalPKIXPublicKey(a.Public())
		pb, _ := x509.MarshalPKIXPublicKey(b.Public())
		if !bytes.Equal(pa, pb) {
			t.Errorf("%s: another key after reopening", id)
		}
		message := []byte("message")
		sum := sha256.Sum256(message)
		switch pub := a.Public().(type) {
		case *ecdsa.PublicKey:
			sig, err := a.Sign(rand.Reader, sum[:], crypto.SHA256)
			if err != nil || !ecdsa.VerifyASN1(pub, sum[:], sig) {
				t.Errorf("%s: signature does not verify: %v", id, err)
			}
		case ed25519.PublicKey:
			sig, err := a.Sign(rand.Reader, message, crypto.Hash(0))
			if err != nil || !ed25519.Verify(pub, message, sig) {
				t.Errorf("%s: signature does not verify: %v", id, err)
			}
		default:
			t.Errorf("%s: unexpected key %T", id, pub)
		}
	}
	plain, err := g.Open(t.Context(), sealed, []byte("aad"))
	if err != nil || string(plain) != "value" {
		t.Errorf("Open after reopening = %q, %v", plain, err)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	_, dir := created(t)
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 7 {
		t.Fatalf("%d files, %v; want 7 keys and nothing else", len(entries), err)
	}
	for _, e := range entries {
		if info, _ := e.Info(); info.Mode() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(dir string) error{
		"directory readable by the group": func(dir string) error { return os.Chmod(dir, 0o750) },
		"key readable by all":             func(dir string) error { return os.Chmod(filepath.Join(dir, "ca.pem"), 0o644) },
		"stray copy readable by all":      func(dir string) error { return os.WriteFile(filepath.Join(dir, "copy"), nil, 0o644) },
		"symbolic link":                   func(dir string) error { return os.Symlink("/dev/null", filepath.Join(dir, "x.pem")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, dir := created(t)
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			_, err := kms.OpenFile(dir)
			if err == nil {
				t.Fatal("opened")
			}
			message, hint := sallyport.ErrorMessage(err)
			if hint == "" || strings.Contains(message+hint, filepath.Dir(dir)) {
				t.Errorf("message %q, hint %q: want a mend and no host path", message, hint)
			}
		})
	}
}

func TestSignerRefusesSpoiledKeys(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(dir string) error{
		"made readable after opening": func(dir string) error { return os.Chmod(filepath.Join(dir, "tsa.pem"), 0o640) },
		"not PEM":                     func(dir string) error { return os.WriteFile(filepath.Join(dir, "tsa.pem"), []byte("x"), 0o600) },
		"truncated":                   func(dir string) error { return os.Truncate(filepath.Join(dir, "tsa.pem"), 60) },
		"another kind of key": func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, "audit.pem"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "tsa.pem"), b, 0o600)
		},
		"missing":  func(dir string) error { return os.Remove(filepath.Join(dir, "tsa.pem")) },
		"too long": func(dir string) error { return os.Truncate(filepath.Join(dir, "tsa.pem"), 1<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, dir := created(t)
			f := open(t, dir)
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Signer(t.Context(), sallyport.KeyTSA); err == nil {
				t.Error("the key was accepted")
			}
		})
	}
}

func TestSealIsBoundToItsData(t *testing.T) {
	t.Parallel()
	f, _ := created(t)
	other, _ := created(t)
	sealed, err := f.Seal(t.Context(), []byte("value"), []byte("prod"))
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() ([]byte, error){
		"other associated data": func() ([]byte, error) { return f.Open(t.Context(), sealed, []byte("dev")) },
		"other installation":    func() ([]byte, error) { return other.Open(t.Context(), sealed, []byte("prod")) },
		"altered": func() ([]byte, error) {
			b := bytes.Clone(sealed)
			b[len(b)-1] ^= 1
			return f.Open(t.Context(), b, []byte("prod"))
		},
		"empty": func() ([]byte, error) { return f.Open(t.Context(), nil, []byte("prod")) },
	} {
		if plain, err := try(); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%s: got %q, %v; want CodeInvalid", name, plain, err)
		}
	}
	if _, err := f.Seal(t.Context(), make([]byte, kms.MaxPlain+1), nil); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("too large a value: %v", err)
	}
	if _, err := f.Signer(t.Context(), "../../etc/passwd"); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("unknown key: %v", err)
	}
}

func TestCreateRace(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	const n = 8
	keys := make([]crypto.PublicKey, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			f, err := kms.OpenFile(dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if err := f.Create(t.Context()); err != nil {
				t.Error(err)
				return
			}
			s, err := f.Signer(t.Context(), sallyport.KeyCA)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = s.Public()
		})
	}
	wg.Wait()
	for i := range keys {
		if keys[i] == nil || !keys[i].(*ecdsa.PublicKey).Equal(keys[0]) {
			t.Fatalf("instance %d holds another key", i)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	f, _ := created(b)
	value := make([]byte, 32)
	for b.Loop() {
		if _, err := f.Seal(b.Context(), value, []byte("project/run/name")); err != nil {
			b.Fatal(err)
		}
	}
}
