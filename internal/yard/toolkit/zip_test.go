package toolkit

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

// rawZip makes an archive whose entries say what their headers say, true or not.
func rawZip(t testing.TB, headers ...*zip.FileHeader) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, h := range headers {
		f, err := w.CreateRaw(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(make([]byte, h.CompressedSize64)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func stored(name string, claimed uint64) *zip.FileHeader {
	return &zip.FileHeader{Name: name, Method: zip.Store, CompressedSize64: 4, UncompressedSize64: claimed, CRC32: 0x2144df1c}
}

func TestHostileZips(t *testing.T) {
	t.Parallel()
	good := zipOf(t, entry{"a", "x", 0o644})
	many := make([]entry, maxFiles+1)
	for i := range many {
		many[i] = entry{fmt.Sprintf("%05d", i), "", 0o644}
	}
	for name, body := range map[string]string{
		"nothing":           "",
		"not a zip":         strings.Repeat("x", 100),
		"cut off":           good[:len(good)-10],
		"up":                zipOf(t, entry{"../a", "x", 0o644}),
		"up in the middle":  zipOf(t, entry{"a/../../b", "x", 0o644}),
		"absolute":          zipOf(t, entry{"/etc/passwd", "x", 0o644}),
		"backslash":         zipOf(t, entry{`..\a`, "x", 0o644}),
		"zero byte":         zipOf(t, entry{"a\x00b", "x", 0o644}),
		"not UTF-8":         zipOf(t, entry{"\xff", "x", 0o644}),
		"empty name":        zipOf(t, entry{"", "x", 0o644}),
		"dot":               zipOf(t, entry{"./a", "x", 0o644}),
		"long name":         zipOf(t, entry{strings.Repeat("x", maxPath+1), "x", 0o644}),
		"symbolic link":     zipOf(t, entry{"a", "/etc/passwd", 0o777 | fs.ModeSymlink}),
		"device":            zipOf(t, entry{"a", "", 0o644 | fs.ModeDevice}),
		"twice":             zipOf(t, entry{"a", "x", 0o644}, entry{"b", "x", 0o644}, entry{"a", "y", 0o644}),
		"too many":          zipOf(t, many...),
		"longer than said":  rawZip(t, stored("a", 3)),
		"shorter than said": rawZip(t, stored("a", 5)),
		"huge by its word":  rawZip(t, stored("a", maxFileBytes+1)),
		"huge in sum":       rawZip(t, stored("a", maxFileBytes-1), stored("b", 2)),
		"near 2^64":         rawZip(t, stored("a", 4), stored("b", ^uint64(0)-2)),
		"unknown method":    rawZip(t, &zip.FileHeader{Name: "a", Method: 99, CompressedSize64: 4, UncompressedSize64: 4}),
		"checksum":          rawZip(t, &zip.FileHeader{Name: "a", Method: zip.Store, CompressedSize64: 4, UncompressedSize64: 4, CRC32: 1}),
	} {
		err := tarFromZip(io.Discard, strings.NewReader(body), int64(len(body)))
		if sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := tarFromZip(io.Discard, strings.NewReader(rawZip(t, stored("a", 4))), int64(len(rawZip(t, stored("a", 4))))); err != nil {
		t.Errorf("a plain stored file: %v", err)
	}
}

// TestZipDirectoryBound hands in a zip that is nothing but entries: it must be
// refused before they are all in memory.
func TestZipDirectoryBound(t *testing.T) {
	t.Parallel()
	const size = 4 * maxDirectory
	r := &entries{size: size}
	err := tarFromZip(io.Discard, r, size)
	if sallyport.ErrorCode(err) != sallyport.CodeInvalid || !strings.Contains(err.Error(), "directory") {
		t.Errorf("got %v", err)
	}
	if r.read > 2*maxDirectory {
		t.Errorf("%d bytes were read", r.read)
	}
}

// entries is a file of central directory headers with an end record that says there
// are as many as its 16 bits can say.
type entries struct{ size, read int64 }

func (e *entries) ReadAt(p []byte, at int64) (int, error) {
	e.read += int64(len(p))
	header := make([]byte, 47) // "a", no extra fields
	binary.LittleEndian.PutUint32(header, 0x02014b50)
	binary.LittleEndian.PutUint16(header[28:], 1)
	header[46] = 'a'
	end := make([]byte, 22)
	binary.LittleEndian.PutUint32(end, 0x06054b50)
	binary.LittleEndian.PutUint16(end[8:], 0xfffe)
	binary.LittleEndian.PutUint16(end[10:], 0xfffe)
	binary.LittleEndian.PutUint32(end[12:], uint32((e.size-22)/47*47))
	for i := range p {
		switch pos := at + int64(i); {
		case pos >= e.size:
			return i, io.EOF
		case pos >= e.size-22:
			p[i] = end[pos-(e.size-22)]
		default:
			p[i] = header[(pos-(e.size-22)%47+47)%47]
		}
	}
	return len(p), nil
}

func FuzzZip(f *testing.F) {
	f.Add([]byte(zipOf(f, entry{"a/b", "x", 0o644}, entry{"c", strings.Repeat("y", 1000), 0o755})))
	f.Add([]byte(zipOf(f, entry{"../a", "x", 0o644})))
	f.Add([]byte(rawZip(f, stored("a", 5))))
	f.Fuzz(func(t *testing.T, body []byte) {
		var b bytes.Buffer
		out := &capped{w: &b, left: 64 << 20} // a small zip may hold much
		err := tarFromZip(out, bytes.NewReader(body), int64(len(body)))
		if err != nil {
			if sallyport.ErrorCode(err) != sallyport.CodeInvalid && !errors.Is(err, errFull) {
				t.Errorf("%v", err)
			}
			return
		}
		last, n := "", 0
		for r := tar.NewReader(&b); ; n++ {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if !fs.ValidPath(h.Name) || h.Name <= last || h.Typeflag != tar.TypeReg || h.Mode&^0o777 != 0 {
				t.Errorf("entry %+v after %q", h, last)
			}
			last = h.Name
		}
	})
}

var errFull = errors.New("full")

type capped struct {
	w    io.Writer
	left int
}

func (c *capped) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		return 0, errFull
	}
	return c.w.Write(p)
}
