package blobstore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"

	"github.com/sallyport-ci/sallyport"
)

// A blob is a file:
//
//	ciphertext   AES256-GCM-HKDF in segments of 1 MiB (Tink), bound to the scope
//	sealed key   bound to scope, digest and size
//	uint32       length of the sealed key
//	uint64       size of the plaintext
//	magic
//
// The end names the digest, which is known only there. Numbers are big-endian.
const (
	blobMagic   = "SPBLOB01"
	blobEnd     = 4 + 8 + len(blobMagic)
	segmentSize = 1 << 20
	blobLabel   = "sallyport.blob.v1"
	tmpDir      = "tmp"
	copyBuffer  = 256 << 10
)

// Dir keeps blobs in a directory.
type Dir struct {
	kms  sallyport.KMS
	root *os.Root
	sync durability
}

var _ sallyport.Blobs = (*Dir)(nil)

// OpenDir opens the directory and removes what interrupted Puts have left.
func OpenDir(c Config) (*Dir, error) {
	root, err := c.open()
	if err != nil {
		return nil, err
	}
	d := &Dir{kms: c.KMS, root: root, sync: durability{c.Volatile}}
	if err := d.sweep(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return d, nil
}

// Close closes the directory. Readers that Get has returned stay good.
func (d *Dir) Close() error { return d.root.Close() }

// sweep removes temporary files that no process holds a lock on.
func (d *Dir) sweep() error {
	if err := d.root.Mkdir(tmpDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return diskError("make the directory of blobs", err)
	}
	left, err := fs.ReadDir(d.root.FS(), tmpDir)
	if err != nil {
		return diskError("read the directory of blobs", err)
	}
	for _, e := range left {
		name := tmpDir + "/" + e.Name()
		f, err := d.root.OpenFile(name, os.O_WRONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return diskError("sweep the directory of blobs", err)
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			err = d.root.Remove(name)
		}
		_ = f.Close()
		if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist) {
			return diskError("sweep the directory of blobs", err)
		}
	}
	return nil
}

// blobName is where a blob is: names of scopes are never names of files.
func blobName(s sallyport.Scope, digest sallyport.Digest) (dir, name string) {
	sum := sha256.Sum256(bind(blobLabel, s.Project, s.Run, s.Name, string(digest)))
	h := hex.EncodeToString(sum[:])
	return h[:2], h[:2] + "/" + h
}

// File returns where a Dir keeps a blob, for those who look at the disk itself.
func File(dir string, s sallyport.Scope, digest sallyport.Digest) string {
	_, name := blobName(s, digest)
	return filepath.Join(dir, filepath.FromSlash(name))
}

func keyParts(s sallyport.Scope, digest sallyport.Digest, size int64) []string {
	return []string{blobLabel, s.Project, s.Run, s.Name, string(digest), strconv.FormatInt(size, 10)}
}

func streamAAD(s sallyport.Scope) []byte { return bind(blobLabel, s.Project, s.Run, s.Name) }

func newStream(key []byte) (*subtle.AESGCMHKDF, error) {
	return subtle.NewAESGCMHKDF(key, "SHA256", keySize, segmentSize, 0)
}

// Put seals r into a temporary file and gives it its name when it is on disk.
func (d *Dir) Put(ctx context.Context, s sallyport.Scope, r io.Reader, want sallyport.Digest, max int64) (_ sallyport.Digest, _ int64, err error) {
	if want != "" {
		if want, err = sallyport.ParseDigest(string(want)); err != nil {
			return "", 0, err
		}
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	tmp := tmpDir + "/" + hex.EncodeToString(id[:])
	f, err := d.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", 0, diskError("put content", err)
	}
	defer func() {
		_ = f.Close() // after Sync: nothing is left to fail
		if err != nil {
			_ = d.root.Remove(tmp) // swept at the next start otherwise
		}
	}()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return "", 0, diskError("put content", err)
	}
	digest, size, err := d.seal(ctx, f, s, r, want, max)
	if err != nil {
		return "", 0, err
	}
	if err := d.publish(f, tmp, s, digest); err != nil {
		return "", 0, diskError("put content", err)
	}
	return digest, size, nil
}

// seal writes the whole file.
func (d *Dir) seal(ctx context.Context, f *os.File, s sallyport.Scope, r io.Reader, want sallyport.Digest, max int64) (sallyport.Digest, int64, error) {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	stream, err := newStream(key)
	if err != nil {
		return "", 0, fmt.Errorf("cipher: %w", err)
	}
	out := &diskWriter{f: f}
	w, err := stream.NewEncryptingWriter(out, streamAAD(s))
	if err != nil {
		return "", 0, out.explain("seal content", err)
	}
	h := sha256.New()
	source := &source{ctx: ctx, r: r, left: max}
	size, err := io.CopyBuffer(io.MultiWriter(h, w), source, make([]byte, copyBuffer))
	switch {
	case source.err != nil:
		return "", 0, source.err
	case err != nil:
		return "", 0, out.explain("seal content", err)
	}
	if err := w.Close(); err != nil {
		return "", 0, out.explain("seal content", err)
	}
	digest := sallyport.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
	if want != "" && digest != want {
		return "", 0, sallyport.Errorf(sallyport.CodeInvalid, "the content has digest %s, not %s", digest, want).
			WithHint("it was changed on its way; send it again")
	}
	sealed, err := sealKey(ctx, d.kms, key, keyParts(s, digest, size)...)
	if err != nil {
		return "", 0, err
	}
	end := binary.BigEndian.AppendUint32(sealed, uint32(len(sealed)))
	end = binary.BigEndian.AppendUint64(end, uint64(size))
	if _, err := out.Write(append(end, blobMagic...)); err != nil {
		return "", 0, out.explain("seal content", err)
	}
	return digest, size, nil
}

// publish makes the file durable and then findable.
func (d *Dir) publish(f *os.File, tmp string, s sallyport.Scope, digest sallyport.Digest) error {
	if err := d.sync.file(f); err != nil {
		return err
	}
	dir, name := blobName(s, digest)
	switch err := d.root.Mkdir(dir, 0o700); {
	case err == nil:
		if err := d.sync.names(d.root, "."); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	if err := d.root.Rename(tmp, name); err != nil {
		return err
	}
	if err := d.sync.names(d.root, dir); err != nil {
		return errors.Join(err, d.root.Remove(name)) // a failed Put leaves nothing
	}
	return nil
}

// source reads at most left bytes of r, while ctx lasts. It keeps its own
// error apart from those of writing.
type source struct {
	ctx  context.Context
	r    io.Reader
	left int64
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = fmt.Errorf("put content: %w", err)
		return 0, s.err
	}
	if int64(len(p)) > s.left+1 { // one more, to see that there is more
		p = p[:s.left+1]
	}
	n, err := s.r.Read(p)
	if int64(n) > s.left {
		s.err = sallyport.Errorf(sallyport.CodeInvalid, "the content is too large").WithHint("the limit is set by the control plane")
		return 0, s.err
	}
	s.left -= int64(n)
	if err != nil && err != io.EOF {
		s.err = fmt.Errorf("read content to put: %w", err)
		return n, s.err
	}
	return n, err
}

// diskWriter keeps the file's error, which the cipher may wrap.
type diskWriter struct {
	f   *os.File
	err error
}

func (w *diskWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

func (w *diskWriter) explain(what string, err error) error {
	if w.err != nil {
		return diskError(what, w.err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// blob is an opened file whose end was verified.
type blob struct {
	f      *os.File
	key    []byte
	size   int64
	sealed int64 // length of the ciphertext
}

func (d *Dir) open(ctx context.Context, s sallyport.Scope, digest sallyport.Digest) (_ *blob, err error) {
	digest, err = sallyport.ParseDigest(string(digest))
	if err != nil {
		return nil, err
	}
	_, name := blobName(s, digest)
	f, err := d.root.Open(name)
	if err != nil {
		return nil, diskError("read content", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, diskError("read content", err)
	}
	size, cipherLen, sealedKey, err := readEnd(f, info.Size())
	if err != nil {
		return nil, err
	}
	key, err := openKey(ctx, d.kms, sealedKey, keyParts(s, digest, size)...)
	if err != nil {
		return nil, err
	}
	return &blob{f: f, key: key, size: size, sealed: cipherLen}, nil
}

var errShape = errors.New("it has not the shape of a sealed file")

// readEnd reads the end of a blob's file. What it returns is not yet authentic.
func readEnd(f io.ReaderAt, length int64) (size, cipherLen int64, sealedKey []byte, err error) {
	var end [blobEnd]byte
	if length < int64(len(end)) {
		return 0, 0, nil, tampered(errShape)
	}
	at := length - int64(len(end))
	if _, err := f.ReadAt(end[:], at); err != nil {
		return 0, 0, nil, diskError("read content", err)
	}
	keyLen := int64(binary.BigEndian.Uint32(end[:4]))
	size = int64(binary.BigEndian.Uint64(end[4:12]))
	if string(end[12:]) != blobMagic || keyLen == 0 || keyLen > maxSealedKey || keyLen > at || size < 0 {
		return 0, 0, nil, tampered(errShape)
	}
	sealedKey = make([]byte, keyLen)
	if _, err := f.ReadAt(sealedKey, at-keyLen); err != nil {
		return 0, 0, nil, diskError("read content", err)
	}
	return size, at - keyLen, sealedKey, nil
}

// Stat returns the size, which is verified, of content that may yet prove tampered when read.
func (d *Dir) Stat(ctx context.Context, s sallyport.Scope, digest sallyport.Digest) (int64, error) {
	b, err := d.open(ctx, s, digest)
	if err != nil {
		return 0, err
	}
	return b.size, b.f.Close()
}

// Get returns the content. Each segment is verified before a byte of it is
// given out, and the digest at the end, in place of io.EOF.
func (d *Dir) Get(ctx context.Context, s sallyport.Scope, digest sallyport.Digest) (io.ReadCloser, error) {
	b, err := d.open(ctx, s, digest)
	if err != nil {
		return nil, err
	}
	stream, err := newStream(b.key)
	if err != nil {
		return nil, errors.Join(err, b.f.Close())
	}
	r, err := stream.NewDecryptingReader(io.NewSectionReader(b.f, 0, b.sealed), streamAAD(s))
	if err != nil {
		return nil, errors.Join(tampered(err), b.f.Close())
	}
	return &reader{b: b, r: r, digest: digest, hash: sha256.New()}, nil
}

type reader struct {
	b      *blob
	r      io.Reader
	digest sallyport.Digest
	hash   hash.Hash
	n      int64
	err    error // the end, or the fault; it stays
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.r.Read(p)
	r.hash.Write(p[:n])
	r.n += int64(n)
	switch {
	case err == io.EOF:
		r.err = io.EOF
		if got := sallyport.Digest("sha256:" + hex.EncodeToString(r.hash.Sum(nil))); got != r.digest || r.n != r.b.size {
			r.err = tampered(fmt.Errorf("digest %s of %d bytes, not %s of %d", got, r.n, r.digest, r.b.size))
		}
	case errors.Is(err, fs.ErrClosed):
		r.err = err
	case err != nil:
		r.err = tampered(err)
	}
	return n, r.err
}

func (r *reader) Close() error { return r.b.f.Close() }

// Delete removes the content, for good when it returns.
func (d *Dir) Delete(_ context.Context, s sallyport.Scope, digest sallyport.Digest) error {
	digest, err := sallyport.ParseDigest(string(digest))
	if err != nil {
		return err
	}
	dir, name := blobName(s, digest)
	if err := d.root.Remove(name); err != nil {
		return diskError("delete content", err)
	}
	if err := d.sync.names(d.root, dir); err != nil {
		return diskError("delete content", err)
	}
	return nil
}
