package blobstore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

func TestPlain(t *testing.T) {
	t.Parallel()
	sallyporttest.Blobs(t, func(t *testing.T) sallyport.Blobs { return NewPlain(filepath.Join(t.TempDir(), "made")) })
}

// Content that somebody altered is not handed out, not even its beginning.
func TestPlainAltered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, scope := NewPlain(dir), sallyport.Scope{Name: "n"}
	d, _, err := p.Put(t.Context(), scope, strings.NewReader("content"), "", 100)
	if err != nil {
		t.Fatal(err)
	}
	name, _ := plainName(scope, d)
	if err := os.WriteFile(filepath.Join(dir, name), []byte("altered"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := p.Get(t.Context(), scope, d); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			t.Errorf("got %v", err)
		}
	}
	if _, err := p.Stat(t.Context(), scope, d); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("it is still there: %v", err)
	}
}
