package engine

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

type tarFile struct {
	name, content string
	mode          int64
}

func tarOf(t *testing.T, list ...tarFile) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range list {
		check(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.content))}))
		_, err := io.WriteString(w, f.content)
		check(t, err)
	}
	check(t, w.Close())
	return b.Bytes()
}

func TestHostileTars(t *testing.T) {
	t.Parallel()
	one := func(h *tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		check(t, w.WriteHeader(h))
		_, err := w.Write(make([]byte, h.Size))
		check(t, err)
		check(t, w.Close())
		return b.Bytes()
	}
	cases := map[string][]byte{
		"empty":         tarOf(t),
		"not a tar":     []byte(strings.Repeat("x", 1024)),
		"absolute":      one(&tar.Header{Typeflag: tar.TypeReg, Name: "/etc/passwd", Size: 1}),
		"parent":        one(&tar.Header{Typeflag: tar.TypeReg, Name: "../x", Size: 1}),
		"inner parent":  one(&tar.Header{Typeflag: tar.TypeReg, Name: "a/../../x", Size: 1}),
		"backslash":     one(&tar.Header{Typeflag: tar.TypeReg, Name: `a\..\x`, Size: 1}),
		"symlink":       one(&tar.Header{Typeflag: tar.TypeSymlink, Name: "x", Linkname: "/etc"}),
		"hard link":     one(&tar.Header{Typeflag: tar.TypeLink, Name: "x", Linkname: "y"}),
		"device":        one(&tar.Header{Typeflag: tar.TypeChar, Name: "x"}),
		"pipe":          one(&tar.Header{Typeflag: tar.TypeFifo, Name: "x"}),
		"twice":         tarOf(t, tarFile{"x", "1", 0o644}, tarFile{"x", "2", 0o644}),
		"cut off":       tarOf(t, tarFile{"x", strings.Repeat("1", 4096), 0o644})[:2048],
		"endless names": one(&tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("x/", 1000) + "x", Size: 1, Format: tar.FormatPAX}),
	}
	for name, b := range cases {
		if _, err := canonicalTar(io.Discard, bytes.NewReader(b)); sallyport.ErrorCode(err) != sallyport.CodeInvalid && name != "cut off" || err == nil {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
	}
}

func FuzzCanonicalTar(f *testing.F) {
	f.Add([]byte("x"))
	f.Add(make([]byte, 1024))
	f.Fuzz(func(t *testing.T, b []byte) {
		var first, second bytes.Buffer
		files, err := canonicalTar(&first, bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := canonicalTar(&second, bytes.NewReader(first.Bytes()))
		if err != nil || len(again) != len(files) || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatalf("the canonical form of the canonical form differs: %v", err)
		}
	})
}
