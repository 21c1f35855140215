package blobstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/sallyport-ci/sallyport"
)

const (
	// keySize is that of AES-256.
	keySize = 32
	// maxSealedKey bounds what a key service makes of a key: the largest add about 400 bytes.
	maxSealedKey = 4096
)

// Config says where to keep, and who holds the key.
type Config struct {
	Dir string // is made with its parents when missing
	KMS sallyport.KMS
	// Volatile writes without waiting for the disk: the directory ends with the process, or is worth nothing after a crash.
	Volatile bool
}

// durability waits for the disk, unless it is off.
type durability struct{ off bool }

func (d durability) file(f *os.File) error {
	if d.off {
		return nil
	}
	return f.Sync()
}

// names makes the names in a directory durable.
func (d durability) names(root *os.Root, dir string) error {
	if d.off {
		return nil
	}
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (c Config) open() (*os.Root, error) {
	if c.Dir == "" || c.KMS == nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "blobs need a directory and a key service")
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, diskError("make the directory of blobs", err)
	}
	root, err := os.OpenRoot(c.Dir)
	if err != nil {
		return nil, diskError("open the directory of blobs", err)
	}
	return root, nil
}

// newKey returns a key and its sealed form, which opens only with the same parts.
func newKey(ctx context.Context, kms sallyport.KMS, parts ...string) (key, sealed []byte, err error) {
	key = make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	sealed, err = sealKey(ctx, kms, key, parts...)
	return key, sealed, err
}

func sealKey(ctx context.Context, kms sallyport.KMS, key []byte, parts ...string) ([]byte, error) {
	sealed, err := kms.Seal(ctx, key, bind(parts...))
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	if len(sealed) == 0 || len(sealed) > maxSealedKey {
		return nil, sallyport.Errorf(sallyport.CodeInternal, "a sealed key has %d bytes", len(sealed))
	}
	return sealed, nil
}

func openKey(ctx context.Context, kms sallyport.KMS, sealed []byte, parts ...string) ([]byte, error) {
	key, err := kms.Open(ctx, sealed, bind(parts...))
	switch {
	case sallyport.ErrorCode(err) == sallyport.CodeInvalid:
		return nil, tampered(err)
	case err != nil:
		return nil, fmt.Errorf("open key: %w", err)
	case len(key) != keySize:
		return nil, tampered(fmt.Errorf("a key has %d bytes", len(key)))
	}
	return key, nil
}

// bind encodes parts so that no two lists of them are the same bytes.
func bind(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		b = binary.BigEndian.AppendUint64(b, uint64(len(p)))
		b = append(b, p...)
	}
	return b
}

func tampered(cause error) error {
	return &sallyport.Error{Code: sallyport.CodeInvalid, Message: "the stored content is not what was put there",
		Hint: "it was changed on the disk; restore it from a backup or make it again", Err: cause}
}

// diskError gives a failed file operation its code.
func diskError(what string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &sallyport.Error{Code: sallyport.CodeNotFound, Message: "there is no such content", Err: err}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &sallyport.Error{Code: sallyport.CodeUnavailable, Message: "the disk of the blobs is full",
			Hint: "free some space and try again; nothing that was acknowledged is lost", Err: err}
	default:
		return &sallyport.Error{Code: sallyport.CodeUnavailable, Message: what + " was refused by the file system",
			Hint: "look at the disk and at the permissions of the data directory", Err: err}
	}
}
