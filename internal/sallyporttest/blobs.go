package sallyporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/sallyport-ci/sallyport"
)

// noise returns n bytes, the same ones for the same n.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b) // never fails
	return b
}

const blobMax = 16 << 20

// Blobs checks the contract of sallyport.Blobs. open returns a new, empty one.
func Blobs(t *testing.T, open func(t *testing.T) sallyport.Blobs) {
	scope := sallyport.Scope{Project: "p", Run: "r", Name: "n"}
	t.Run("round trip", func(t *testing.T) {
		b := open(t)
		for _, n := range []int{0, 1, 1000, 1<<20 - 57, 1<<20 - 56, 1<<20 - 55, 1 << 20, 1<<20 + 1, 3<<20 + 12345} {
			content := noise(n)
			want := sallyport.DigestOf(content)
			for _, claimed := range []sallyport.Digest{"", want} { // the second is a repetition
				got, size, err := b.Put(t.Context(), scope, iotest.HalfReader(bytes.NewReader(content)), claimed, int64(n))
				if err != nil || got != want || size != int64(n) {
					t.Fatalf("put of %d bytes: %s, %d, %v", n, got, size, err)
				}
			}
			if size, err := b.Stat(t.Context(), scope, want); err != nil || size != int64(n) {
				t.Errorf("stat of %d bytes: %d, %v", n, size, err)
			}
			if got := mustGet(t, b, scope, want); !bytes.Equal(got, content) {
				t.Errorf("get of %d bytes returned others", n)
			}
		}
	})
	t.Run("refused", func(t *testing.T) {
		b := open(t)
		content := noise(100)
		digest := sallyport.DigestOf(content)
		broken := errors.New("broken pipe")
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		for _, c := range []struct {
			name string
			ctx  context.Context
			r    io.Reader
			want sallyport.Digest
			max  int64
			code sallyport.Code
			is   error
		}{
			{"another digest", t.Context(), bytes.NewReader(content), sallyport.DigestOf(nil), blobMax, sallyport.CodeInvalid, nil},
			{"no digest", t.Context(), bytes.NewReader(content), "sha256:x", blobMax, sallyport.CodeInvalid, nil},
			{"too large", t.Context(), bytes.NewReader(content), "", 99, sallyport.CodeInvalid, nil},
			{"too large by one read", t.Context(), iotest.OneByteReader(bytes.NewReader(content)), "", 0, sallyport.CodeInvalid, nil},
			{"interrupted", t.Context(), io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken)), "", blobMax, "", broken},
			{"cancelled", cancelled, bytes.NewReader(content), "", blobMax, "", context.Canceled},
		} {
			_, _, err := b.Put(c.ctx, scope, c.r, c.want, c.max)
			if err == nil || c.code != "" && sallyport.ErrorCode(err) != c.code || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%s: got %v", c.name, err)
			}
		}
		if _, err := b.Get(t.Context(), scope, digest); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			t.Errorf("a refused put left something: %v", err)
		}
	})
	t.Run("scopes", func(t *testing.T) {
		b := open(t)
		content := noise(10)
		digest := sallyport.DigestOf(content)
		var scopes []sallyport.Scope
		for _, s := range [][3]string{{"p", "r", "n"}, {"pr", "", "n"}, {"p", "rn", ""}, {"", "", ""}, {"../..", "/", "\x00"}} {
			scopes = append(scopes, sallyport.Scope{Project: s[0], Run: s[1], Name: s[2]})
		}
		for _, s := range scopes {
			if _, err := b.Get(t.Context(), s, digest); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
				t.Errorf("%q sees the content of another scope: %v", s, err)
			}
			if _, _, err := b.Put(t.Context(), s, bytes.NewReader(content), "", blobMax); err != nil {
				t.Fatalf("put to %q: %v", s, err)
			}
		}
		if err := b.Delete(t.Context(), scopes[0], digest); err != nil {
			t.Fatalf("delete: %v", err)
		}
		for _, err := range []error{b.Delete(t.Context(), scopes[0], digest), second(b.Get(t.Context(), scopes[0], digest)), second(b.Stat(t.Context(), scopes[0], digest))} {
			if sallyport.ErrorCode(err) != sallyport.CodeNotFound {
				t.Errorf("after delete: %v", err)
			}
		}
		for _, s := range scopes[1:] {
			mustGet(t, b, s, digest)
		}
		if _, err := b.Get(t.Context(), scope, "sha256:../x"); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("get of no digest: %v", err)
		}
	})
	t.Run("at once", func(t *testing.T) {
		b := open(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				content := noise(1000 + i%2)
				for range 10 {
					d, _, err := b.Put(context.Background(), scope, bytes.NewReader(content), "", blobMax)
					if err != nil {
						t.Errorf("put: %v", err)
						return
					}
					r, err := b.Get(context.Background(), scope, d)
					if err != nil {
						t.Errorf("get: %v", err)
						return
					}
					got, err := io.ReadAll(r)
					if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, content) {
						t.Errorf("get: %v", err)
					}
				}
			})
		}
		wg.Wait()
	})
}

func second[T any](_ T, err error) error { return err }

func mustGet(t testing.TB, b sallyport.Blobs, s sallyport.Scope, d sallyport.Digest) []byte {
	t.Helper()
	r, err := b.Get(t.Context(), s, d)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return got
}

// Logs checks the contract of sallyport.Logs. open returns a new, empty one.
func Logs(t *testing.T, open func(t *testing.T) sallyport.Logs) {
	const job = sallyport.JobID("0190c0de-0000-7000-8000-000000000001")
	appendTo := func(t *testing.T, l sallyport.Logs, j sallyport.JobID, offset int64, data string, wantEnd int64, code sallyport.Code) {
		t.Helper()
		end, err := l.Append(t.Context(), j, offset, []byte(data))
		if end != wantEnd || sallyport.ErrorCode(err) != code {
			t.Errorf("append %q at %d: %d, %v, want %d and code %q", data, offset, end, err, wantEnd, code)
		}
	}
	read := func(t *testing.T, l sallyport.Logs, j sallyport.JobID, offset int64, max int, want string) {
		t.Helper()
		got, err := l.Read(t.Context(), j, offset, max)
		if err != nil || string(got) != want {
			t.Errorf("read %d at %d: %q, %v, want %q", max, offset, got, err, want)
		}
	}
	t.Run("append", func(t *testing.T) {
		l := open(t)
		if end, err := l.Size(t.Context(), job); err != nil || end != 0 {
			t.Errorf("size of no log: %d, %v", end, err)
		}
		read(t, l, job, 0, 10, "")
		appendTo(t, l, job, 1, "x", 0, sallyport.CodeConflict)
		appendTo(t, l, job, -1, "x", 0, sallyport.CodeInvalid)
		appendTo(t, l, job, 0, "", 0, "")
		appendTo(t, l, job, 0, "hello", 5, "")
		appendTo(t, l, job, 5, " world", 11, "")
		appendTo(t, l, job, 5, " world", 11, "")  // repeated
		appendTo(t, l, job, 0, "he", 11, "")      // repeated in part
		appendTo(t, l, job, 8, "rld, oh", 15, "") // overlapping
		appendTo(t, l, job, 16, "gap", 15, sallyport.CodeConflict)
		appendTo(t, l, job, 15, "", 15, "")
		read(t, l, job, 0, 100, "hello world, oh")
		read(t, l, job, 3, 4, "lo w")
		read(t, l, job, 5, 6, " world")
		read(t, l, job, 14, 9, "h")
		read(t, l, job, 15, 9, "")
		read(t, l, job, 99, 9, "")
		read(t, l, job, 0, 0, "")
		if end, err := l.Size(t.Context(), job); err != nil || end != 15 {
			t.Errorf("size: %d, %v", end, err)
		}
		read(t, l, "0190c0de-0000-7000-8000-000000000002", 0, 9, "")
		if _, err := l.Append(t.Context(), "../x", 0, nil); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("append to a job with a path for an id: %v", err)
		}
	})
	t.Run("attempts", func(t *testing.T) { // each has a log of its own
		l := open(t)
		appendTo(t, l, job, 0, "first", 5, "")
		appendTo(t, l, job+".2", 0, "second", 6, "")
		appendTo(t, l, job+".10", 0, "tenth", 5, "")
		read(t, l, job, 0, 9, "first")
		read(t, l, job+".2", 0, 9, "second")
		for _, id := range []sallyport.JobID{job + ".", job + ".1.", job + ".x", job + ".2.3", ".2", ".", ".."} {
			appendTo(t, l, id, 0, "x", 0, sallyport.CodeInvalid)
		}
	})
	t.Run("large", func(t *testing.T) {
		l := open(t)
		all := noise(5 << 20)
		for offset := 0; offset < len(all); {
			n := min(len(all)-offset, []int{1, 100, 70_000, 1 << 20}[offset%4])
			end, err := l.Append(t.Context(), job, int64(offset), all[offset:offset+n])
			if err != nil {
				t.Fatal(err)
			}
			offset = int(end)
		}
		for _, c := range []struct{ offset, max int }{{0, len(all)}, {1, 1}, {1<<20 - 1, 2}, {4 << 20, 2 << 20}, {len(all) - 1, 9}, {1234567, 345678}} {
			got, err := l.Read(t.Context(), job, int64(c.offset), c.max)
			if want := all[c.offset:min(len(all), c.offset+c.max)]; err != nil || !bytes.Equal(got, want) {
				t.Errorf("read %d at %d: %d bytes, %v", c.max, c.offset, len(got), err)
			}
		}
	})
	t.Run("many at once", func(t *testing.T) {
		l := open(t)
		const jobs, lines = 100, 20
		var wg sync.WaitGroup
		for j := range jobs {
			id := sallyport.JobID(fmt.Sprintf("0190c0de-0000-7000-8000-%012d", j))
			wg.Go(func() { // one writes
				var end int64
				for n := range lines {
					var err error
					if end, err = l.Append(context.Background(), id, end, fmt.Appendf(nil, "line %03d of %03d\n", n, j)); err != nil {
						t.Errorf("append: %v", err)
						return
					}
				}
			})
			wg.Go(func() { // one follows
				var got []byte
				for len(got) < lines*16 {
					more, err := l.Read(context.Background(), id, int64(len(got)), 50)
					if err != nil {
						t.Errorf("read: %v", err)
						return
					}
					got = append(got, more...)
				}
				for n := range lines {
					if want := fmt.Sprintf("line %03d of %03d\n", n, j); string(got[n*16:][:16]) != want {
						t.Errorf("got %q, want %q", got[n*16:][:16], want)
					}
				}
			})
		}
		wg.Wait()
	})
}
