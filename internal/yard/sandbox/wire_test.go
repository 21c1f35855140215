package sandbox

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

func pair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	a, f, err := socketpair(unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = unixConn(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestFrames(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	big := pidone.Request{Op: pidone.OpExec, Argv: []string{strings.Repeat("x", 1<<20)}}
	go func() {
		_ = writeFrame(a, pidone.Answer{Code: 3}, f, f, f)
		_ = writeFrame(a, big)
		_ = writeFrame(a, big)
		_ = writeFrame(a, pidone.Answer{}, f, f, f, f)
	}()
	body, files, err := readFrame(b, pidone.MaxAnswer)
	if err != nil || string(body) != `{"code":3}` || len(files) != 3 {
		t.Errorf("got %q with %d files, %v", body, len(files), err)
	}
	pidone.CloseAll(files)
	if body, _, err := readFrame(b, pidone.MaxRequest); err != nil || len(body) < 1<<20 {
		t.Errorf("a large frame: %d bytes, %v", len(body), err)
	}
	if _, _, err := readFrame(b, pidone.MaxAnswer); err == nil {
		t.Error("a frame over the limit was read")
	}
	if err := writeFrame(a, pidone.Request{Argv: []string{strings.Repeat("x", pidone.MaxRequest)}}); err == nil {
		t.Error("a frame over the limit was written")
	}
}

func TestByteList(t *testing.T) {
	t.Parallel()
	for _, want := range []pidone.ByteList{nil, {"a"}, {"a", "", "b=c"}, {"\xff\xfe not UTF-8 \n", "é"}} {
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got pidone.ByteList
		if err := json.Unmarshal(b, &got); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	var got pidone.ByteList
	if err := json.Unmarshal([]byte(`"YQ=="`), &got); err == nil {
		t.Errorf("got %q from a list without an end", got)
	}
}

func TestTooManyFiles(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	fds := make([]int, 20)
	for i := range fds {
		fds[i] = 0
	}
	if _, _, err := a.WriteMsgUnix([]byte("x"), unix.UnixRights(fds...), nil); err != nil {
		t.Fatal(err)
	}
	var p [1]byte
	if _, files, err := readWithFiles(b, p[:]); err == nil {
		t.Errorf("got %d files, want an error", len(files))
	}
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`{}`, `{"code":255}`, `{"code":256}`, `{"signal":9}`, `{"signal":-1}`, `{"failed":"no such file"}`, `[]`, `{"code":1e9}`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := pidone.ParseAnswer(b)
		if err != nil {
			return
		}
		if a.Code < 0 || a.Code > 255 || a.Signal < 0 || a.Signal > 64 || len(a.Failed) > 512 {
			t.Errorf("%q: got %+v", b, a)
		}
		if s := printable(a.Failed); strings.ContainsAny(s, "\x00\x07\x1b\r\n\x7f") {
			t.Errorf("%q: not printable", s)
		}
	})
}

// FuzzFrame feeds the host's side bytes that a hostile init could send.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > 64<<10 { // more than the socket's buffer would block
			return
		}
		a, c := pair(t)
		if _, err := a.Write(b); err != nil {
			t.Skip(err)
		}
		a.Close()
		body, files, err := readFrame(c, pidone.MaxAnswer)
		if err == nil && (len(body) > pidone.MaxAnswer || !bytes.Equal(b[4:4+len(body)], body)) || len(files) != 0 {
			t.Errorf("got %q from %q", body, b)
		}
	})
}
