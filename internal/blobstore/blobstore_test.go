package blobstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

func openDir(t testing.TB, dir string, kms sallyport.KMS) *Dir {
	t.Helper()
	d, err := OpenDir(Config{Dir: dir, KMS: kms})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func openLogs(t testing.TB, dir string, kms sallyport.KMS) *Logs {
	t.Helper()
	l, err := OpenLogs(Config{Dir: dir, KMS: kms})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

func TestDir(t *testing.T) {
	t.Parallel()
	sallyporttest.Blobs(t, func(t *testing.T) sallyport.Blobs { return openDir(t, t.TempDir(), sallyporttest.NewKMS()) })
}

func TestLogs(t *testing.T) {
	t.Parallel()
	sallyporttest.Logs(t, func(t *testing.T) sallyport.Logs { return openLogs(t, t.TempDir(), sallyporttest.NewKMS()) })
}

// TestVolatile has both without waiting for a disk.
func TestVolatile(t *testing.T) {
	t.Parallel()
	config := func(t *testing.T) Config {
		return Config{Dir: t.TempDir(), KMS: sallyporttest.NewKMS(), Volatile: true}
	}
	t.Run("blobs", func(t *testing.T) {
		sallyporttest.Blobs(t, func(t *testing.T) sallyport.Blobs {
			d, err := OpenDir(config(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Close() })
			return d
		})
	})
	t.Run("logs", func(t *testing.T) {
		sallyporttest.Logs(t, func(t *testing.T) sallyport.Logs {
			l, err := OpenLogs(config(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			return l
		})
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{}, {Dir: t.TempDir()}, {KMS: sallyporttest.NewKMS()}} {
		if _, err := OpenDir(c); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("OpenDir(%+v): %v", c, err)
		}
		if _, err := OpenLogs(c); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("OpenLogs(%+v): %v", c, err)
		}
	}
}

var scope = sallyport.Scope{Project: "p", Run: "r", Name: "n"}

func put(t testing.TB, d *Dir, s sallyport.Scope, content []byte) sallyport.Digest {
	t.Helper()
	digest, _, err := d.Put(t.Context(), s, bytes.NewReader(content), "", 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func get(t testing.TB, d *Dir, s sallyport.Scope, digest sallyport.Digest) ([]byte, error) {
	r, err := d.Get(t.Context(), s, digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// files lists the files below a directory.
func files(t testing.TB, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDirTampered changes every region of a blob's file: no change goes unseen, and
// what is read before it is seen is true.
func TestDirTampered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openDir(t, dir, sallyporttest.NewKMS())
	content := bytes.Repeat([]byte("0123456789abcdef"), 3<<16) // three segments
	digest := put(t, d, scope, content)
	_, name := blobName(scope, digest)
	name = filepath.Join(dir, name)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(good, content[:64]) {
		t.Fatal("the content is on the disk in clear")
	}
	n := len(good)
	flip := func(at int) []byte { b := slices.Clone(good); b[at] ^= 1; return b }
	cases := map[string][]byte{
		"empty": {}, "head only": good[:40], "cut end": good[:n-1], "cut segment": good[:2<<20], "longer": append(slices.Clone(good), 0),
		"segments swapped": slices.Concat(good[:1<<20], good[2<<20:3<<20], good[1<<20:2<<20], good[3<<20:]),
		"segment left out": slices.Concat(good[:1<<20], good[2<<20:]),
	}
	for _, at := range []int{0, 1, 39, 40, 1 << 20, 2<<20 + 7, 3 << 20, n - 1, n - 8, n - 9, n - 16, n - 17, n - 20, n - 21, n - 40, n - 80, n - 100} {
		cases[fmt.Sprint("byte ", at)] = flip(at)
	}
	for name2, bad := range cases {
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := get(t, d, scope, digest)
		if sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%s: got %v", name2, err)
		}
		if !bytes.HasPrefix(content, got) {
			t.Errorf("%s: false bytes were read", name2)
		}
	}
	// The file of one scope, or one digest, under the name of another.
	other := sallyport.Scope{Project: "p", Run: "r", Name: "other"}
	put(t, d, other, content)
	second := put(t, d, scope, []byte("second"))
	_, otherName := blobName(other, digest)
	_, secondName := blobName(scope, second)
	for _, to := range []string{otherName, secondName} {
		if err := os.WriteFile(filepath.Join(dir, to), good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := get(t, d, other, digest); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("moved to another scope: %v", err)
	}
	if _, err := get(t, d, scope, second); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("moved to another digest: %v", err)
	}
	if err := os.WriteFile(name, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := get(t, d, scope, digest); err != nil || !bytes.Equal(got, content) {
		t.Errorf("restored: %v", err)
	}
	if _, err := get(t, openDir(t, dir, sallyporttest.NewKMS()), scope, digest); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("with another key service: %v", err)
	}
}

func TestDirSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kms := sallyporttest.NewKMS()
	d := openDir(t, dir, kms)
	stale := filepath.Join(dir, tmpDir, "stale")
	if err := os.WriteFile(stale, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A Put that is under way, in this process or another, is left alone.
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, _, err := d.Put(t.Context(), scope, r, "", 100)
		done <- err
	}()
	if _, err := w.Write([]byte("half")); err != nil { // returns when Put has read it
		t.Fatal(err)
	}
	openDir(t, dir, kms)
	if _, err := os.Stat(stale); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a stale file was not swept: %v", err)
	}
	w.Close()
	if err := <-done; err != nil {
		t.Errorf("put during a sweep: %v", err)
	}
	if left := files(t, filepath.Join(dir, tmpDir)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// smallDisk mounts a file system of a few megabytes.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("a small disk cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func TestDirFull(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t)
	d := openDir(t, dir, sallyporttest.NewKMS())
	small := []byte("small")
	kept := put(t, d, scope, small)
	_, _, err := d.Put(t.Context(), scope, io.LimitReader(zeros{}, 8<<20), "", 1<<30)
	if sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("put to a full disk: %v", err)
	}
	if left := files(t, dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if got, err := get(t, d, scope, kept); err != nil || !bytes.Equal(got, small) {
		t.Errorf("what was there: %q, %v", got, err)
	}
	put(t, d, scope, []byte("space again"))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// FuzzBlobEnd gives files that are not ours to Get and Stat.
func FuzzBlobEnd(f *testing.F) {
	kms := sallyporttest.NewKMS()
	dir := f.TempDir()
	d := openDir(f, dir, kms)
	digest := put(f, d, scope, []byte("content"))
	_, name := blobName(scope, digest)
	name = filepath.Join(dir, name)
	good, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte(blobMagic))
	f.Add(append(bytes.Repeat([]byte{0xff}, 12), blobMagic...))
	f.Add(append(make([]byte, 100), blobMagic...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := get(t, d, scope, digest)
		if bytes.Equal(b, good) != (err == nil) {
			t.Fatalf("got %q, %v", got, err)
		}
		if err != nil && sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Fatalf("got %v", err)
		}
	})
}
