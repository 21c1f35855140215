package kms

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sallyport-ci/sallyport"
)

// maxKeyFile bounds a key file; the largest we write is below 2 KiB, a keyset
// after many rotations stays far below this.
const maxKeyFile = 64 << 10

const pemPrivate = "PRIVATE KEY"

// File is a KMS on a directory. It is safe for use by several goroutines, and
// Create by several processes: of two that make the same key, one wins.
type File struct {
	root *os.Root

	mu      sync.Mutex
	signers map[sallyport.KeyID]crypto.Signer
	sealer  tink.AEAD
}

var _ sallyport.KMS = (*File)(nil)

// OpenFile opens the key directory, which is made with mode 0700 if there is
// none. It refuses a directory or key file that others may read or write, or
// that belongs to another user, and names the mend. It makes no keys.
func OpenFile(dir string) (*File, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make key directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open key directory: %w", err)
	}
	f := &File{root: root, signers: map[sallyport.KeyID]crypto.Signer{}}
	if err := f.checkDirectory(filepath.Base(dir)); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return f, nil
}

// Close releases the directory. Signers that were handed out stay usable.
func (f *File) Close() error { return f.root.Close() }

// checkDirectory judges the directory and every file in it, also those that
// are no keys: a stray copy of a key is a key.
func (f *File) checkDirectory(name string) error {
	info, err := f.root.Stat(".")
	if err != nil {
		return fmt.Errorf("check key directory: %w", err)
	}
	if err := private(name, info, "chmod 700"); err != nil {
		return err
	}
	dir, err := f.root.Open(".")
	if err != nil {
		return fmt.Errorf("list key directory: %w", err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return fmt.Errorf("list key directory: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // a temporary file of a Create that runs beside us
		}
		if err != nil {
			return fmt.Errorf("check key file: %w", err)
		}
		if err := private(name+"/"+e.Name(), info, "chmod 600"); err != nil {
			return err
		}
	}
	return nil
}

// private refuses what anybody but the present user can reach. name is
// relative, so that no host path gets into a message.
func private(name string, info fs.FileInfo, mend string) error {
	if !info.IsDir() && !info.Mode().IsRegular() {
		return sallyport.Errorf(sallyport.CodeInvalid, "%q in the key directory is not a regular file", name).
			WithHint("remove it, or put the key itself in its place")
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return sallyport.Errorf(sallyport.CodeDenied, "key storage %q has mode %04o: other users can reach the keys", name, perm).
			WithHint("%s %s in the data directory; if others used this machine meanwhile, make a new installation", mend, name)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return sallyport.Errorf(sallyport.CodeDenied, "key storage %q belongs to user %d, not to the user %d that runs this", name, st.Uid, os.Geteuid()).
			WithHint("run as the owner, or chown the data directory to this user")
	}
	return nil
}

// Create implements sallyport.KMS.
func (f *File) Create(ctx context.Context) error {
	for _, k := range signingKeys {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.createSigner(k.id, k.kind); err != nil {
			return fmt.Errorf("create key %s: %w", k.id, err)
		}
	}
	if err := f.createSealer(); err != nil {
		return fmt.Errorf("create key %s: %w", sallyport.KeySeal, err)
	}
	return nil
}

func (f *File) createSigner(id sallyport.KeyID, k kind) error {
	if _, err := f.root.Stat(signerFile(id)); err == nil {
		return nil
	}
	key, err := generate(k)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return f.writeOnce(signerFile(id), pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}))
}

func (f *File) createSealer() error {
	if _, err := f.root.Stat(sealerFile); err == nil {
		return nil
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&buf)); err != nil {
		return err
	}
	return f.writeOnce(sealerFile, buf.Bytes())
}

const sealerFile = string(sallyport.KeySeal) + ".tink.json"

func signerFile(id sallyport.KeyID) string { return string(id) + ".pem" }

// writeOnce makes the file with its whole content or not at all, durably, and
// leaves alone one that exists: a temporary file is synced and then linked.
func (f *File) writeOnce(name string, content []byte) (err error) {
	var suffix [8]byte
	_, _ = rand.Read(suffix[:])
	tmp := name + "." + hex.EncodeToString(suffix[:]) + ".tmp"
	file, err := f.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.root.Remove(tmp), f.syncDirectory()) }()
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := f.root.Link(tmp, name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (f *File) syncDirectory() error {
	dir, err := f.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// read returns a key file after judging it again: it may have been replaced
// since the directory was opened.
func (f *File) read(name string) ([]byte, error) {
	file, err := f.root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if err := private(name, info, "chmod 600"); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = errors.New("file is too large for a key")
	}
	return b, err
}

// Signer implements sallyport.KMS.
func (f *File) Signer(_ context.Context, id sallyport.KeyID) (crypto.Signer, error) {
	var want kind
	for _, k := range signingKeys {
		if k.id == id {
			want = k.kind
		}
	}
	token := want == 0 && tokenKeyID.MatchString(string(id))
	if want == 0 && !token {
		return nil, sallyport.Errorf(sallyport.CodeNotFound, "there is no signing key %.40q", string(id))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s, ok := f.signers[id]; ok {
		return s, nil
	}
	b, err := f.read(signerFile(id))
	if err != nil {
		return nil, readError(id, err)
	}
	s, err := parseSigner(b)
	if err != nil {
		return nil, fmt.Errorf("parse key %s: %w", id, err)
	}
	if !want.fits(s) && !(token && (rsa2048.fits(s) || ecdsaP256.fits(s))) {
		return nil, fmt.Errorf("key %s is of the wrong kind (%T)", id, s)
	}
	f.signers[id] = s
	return s, nil
}

func parseSigner(b []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(b)
	if block == nil || block.Type != pemPrivate || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("not a PEM file with one PRIVATE KEY")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return s, nil
}

func (f *File) aead() (tink.AEAD, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sealer != nil {
		return f.sealer, nil
	}
	b, err := f.read(sealerFile)
	if err != nil {
		return nil, readError(sallyport.KeySeal, err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(b)))
	if err != nil {
		return nil, fmt.Errorf("parse key %s: %w", sallyport.KeySeal, err)
	}
	if f.sealer, err = aead.New(handle); err != nil {
		return nil, fmt.Errorf("use key %s: %w", sallyport.KeySeal, err)
	}
	return f.sealer, nil
}

func readError(id sallyport.KeyID, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return sallyport.Errorf(sallyport.CodeNotFound, "key %s does not exist", id).
			WithHint("restore the key directory from its backup; without it nothing of this installation can be opened or signed")
	}
	return fmt.Errorf("read key %s: %w", id, err)
}

// AddSigner implements sallyport.KMS.
func (f *File) AddSigner(_ context.Context, id sallyport.KeyID, algorithm string) error {
	k, err := tokenKind(id, algorithm)
	if err != nil {
		return err
	}
	if _, err := f.root.Lstat(signerFile(id)); err == nil {
		return sallyport.Errorf(sallyport.CodeConflict, "key %s exists", id)
	}
	if err := f.createSigner(id, k); err != nil {
		return fmt.Errorf("create key %s: %w", id, err)
	}
	return nil
}

// RemoveSigner implements sallyport.KMS.
func (f *File) RemoveSigner(_ context.Context, id sallyport.KeyID) error {
	if !tokenKeyID.MatchString(string(id)) {
		return sallyport.Errorf(sallyport.CodeInvalid, "key %.60q cannot be removed", string(id))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.signers, id)
	if err := f.root.Remove(signerFile(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove key %s: %w", id, err)
	}
	return f.syncDirectory()
}

// Seal implements sallyport.KMS: AES-256-GCM with a random nonce, in Tink's
// wire format, whose prefix names the key of the set.
func (f *File) Seal(_ context.Context, plain, aad []byte) ([]byte, error) {
	if len(plain) > MaxPlain {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "a value of %d bytes is too large to seal, at most %d", len(plain), MaxPlain)
	}
	a, err := f.aead()
	if err != nil {
		return nil, err
	}
	sealed, err := a.Encrypt(plain, aad)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return sealed, nil
}

// Open implements sallyport.KMS.
func (f *File) Open(_ context.Context, sealed, aad []byte) ([]byte, error) {
	a, err := f.aead()
	if err != nil {
		return nil, err
	}
	plain, err := a.Decrypt(sealed, aad)
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the sealed value does not open: it was altered, moved, or sealed by another installation")
	}
	return plain, nil
}
