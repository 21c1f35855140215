package blobstore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/sallyport-ci/sallyport"
)

const plainLabel = "sallyport.plain.v1"

// Plain keeps content that is no secret in clear: the cache of a user, who has
// no installation and no key. Who writes to its disk can alter content; Get finds that
// before it returns anything. Nothing is synced: what is lost is fetched again.
type Plain struct {
	dir string
}

var _ sallyport.Blobs = Plain{}

// NewPlain returns the cache in a directory, which is made when something is put there.
func NewPlain(dir string) Plain { return Plain{dir} }

func (p Plain) open() (*os.Root, error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, diskError("make the cache", err)
	}
	root, err := os.OpenRoot(p.dir)
	if err != nil {
		return nil, diskError("open the cache", err)
	}
	return root, nil
}

func plainName(s sallyport.Scope, d sallyport.Digest) (string, error) {
	if _, err := sallyport.ParseDigest(string(d)); err != nil {
		return "", err
	}
	sum := sha256.Sum256(bind(plainLabel, s.Project, s.Run, s.Name, string(d)))
	return hex.EncodeToString(sum[:]), nil
}

// Put writes a file aside and gives it its name when it is whole.
func (p Plain) Put(ctx context.Context, s sallyport.Scope, r io.Reader, want sallyport.Digest, max int64) (_ sallyport.Digest, _ int64, err error) {
	if want != "" {
		if want, err = sallyport.ParseDigest(string(want)); err != nil {
			return "", 0, err
		}
	}
	root, err := p.open()
	if err != nil {
		return "", 0, err
	}
	defer root.Close()
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	tmp := "tmp-" + hex.EncodeToString(id[:])
	f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", 0, diskError("put content", err)
	}
	defer func() {
		_ = f.Close() // every write was checked
		if err != nil {
			_ = root.Remove(tmp)
		}
	}()
	in := &source{ctx: ctx, r: r, left: max}
	h := sha256.New()
	size, err := io.CopyBuffer(io.MultiWriter(f, h), in, make([]byte, copyBuffer))
	switch {
	case in.err != nil:
		return "", 0, in.err
	case err != nil:
		return "", 0, diskError("put content", err)
	}
	digest := sallyport.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
	if want != "" && digest != want {
		return "", 0, sallyport.Errorf(sallyport.CodeInvalid, "the content has digest %s, not %s", digest, want)
	}
	name, err := plainName(s, digest)
	if err != nil {
		return "", 0, err
	}
	if err := root.Rename(tmp, name); err != nil {
		return "", 0, diskError("put content", err)
	}
	return digest, size, nil
}

// Get reads the content twice: before it is returned, all of it is compared
// with its digest. What was altered is not there.
func (p Plain) Get(_ context.Context, s sallyport.Scope, d sallyport.Digest) (io.ReadCloser, error) {
	f, err := p.file(s, d)
	if err != nil {
		return nil, err
	}
	got, _, err := sallyport.DigestReader(f)
	if err == nil && got == d {
		_, err = f.Seek(0, io.SeekStart)
	}
	switch {
	case err != nil:
		f.Close()
		return nil, diskError("get content", err)
	case got != d:
		f.Close()
		return nil, diskError("get content", errors.Join(fs.ErrNotExist, p.Delete(context.Background(), s, d)))
	}
	return f, nil
}

func (p Plain) file(s sallyport.Scope, d sallyport.Digest) (*os.File, error) {
	name, err := plainName(s, d)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(p.dir)
	if err != nil {
		return nil, diskError("open the cache", err)
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return nil, diskError("get content", err)
	}
	return f, nil
}

func (p Plain) Stat(_ context.Context, s sallyport.Scope, d sallyport.Digest) (int64, error) {
	f, err := p.file(s, d)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, diskError("look at content", err)
	}
	return info.Size(), nil
}

func (p Plain) Delete(_ context.Context, s sallyport.Scope, d sallyport.Digest) error {
	name, err := plainName(s, d)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(p.dir)
	if err != nil {
		return diskError("open the cache", err)
	}
	defer root.Close()
	if err := root.Remove(name); err != nil {
		return diskError("delete content", err)
	}
	return nil
}
