package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func setOf(t testing.TB, values ...string) *Set {
	t.Helper()
	s := New(Config{})
	for _, v := range values {
		if err := s.Add(v); err != nil {
			t.Fatalf("Add(%q): %v", v, err)
		}
	}
	return s
}

func TestTextMasksEveryForm(t *testing.T) {
	t.Parallel()
	values := []string{
		"hunter2-hunter2",
		`p&ss"w<o>r'd\$1/2 +é€😀`,
		"tok_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-0123456789",
	}
	encode := map[string]func(string) string{
		"raw":          func(v string) string { return v },
		"base64 at 0":  func(v string) string { return base64.StdEncoding.EncodeToString([]byte(v)) },
		"base64 at 1":  func(v string) string { return base64.StdEncoding.EncodeToString([]byte(":" + v + "!")) },
		"base64 at 2":  func(v string) string { return base64.StdEncoding.EncodeToString([]byte("u:" + v + "?!")) },
		"basic auth":   func(v string) string { return enc64("user:" + v) },
		"base64url":    func(v string) string { return base64.URLEncoding.EncodeToString([]byte("u:" + v)) },
		"base64 twice": func(v string) string { return enc64(enc64(v)) },
		"base64 twice at 1": func(v string) string {
			return enc64("x" + enc64("yz"+v))
		},
		"hex":           func(v string) string { return hex.EncodeToString([]byte(v)) },
		"HEX":           func(v string) string { return strings.ToUpper(hex.EncodeToString([]byte(v))) },
		"query":         url.QueryEscape,
		"path":          url.PathEscape,
		"json":          func(v string) string { b, _ := json.Marshal(v); return string(b) },
		"json in json":  func(v string) string { return jsonText(jsonText(v, false), false) },
		"json ascii":    func(v string) string { return asciiOnly(jsonText(v, false)) },
		"xml":           func(v string) string { var b bytes.Buffer; _ = xml.EscapeText(&b, []byte(v)); return b.String() },
		"single quotes": func(v string) string { return "'" + strings.ReplaceAll(v, "'", `'\''`) + "'" },
		"powershell":    func(v string) string { return "'" + strings.ReplaceAll(v, "'", "''") + "'" },
		"wrapped":       func(v string) string { return wrap(enc64(v), 76) },
		"wrapped at 64": func(v string) string { return wrap(enc64(v), 64) },
	}
	for _, v := range values {
		for name, f := range encode {
			t.Run(name+" "+v[:4], func(t *testing.T) {
				t.Parallel()
				s := setOf(t, v)
				in := "before " + f(v) + " after"
				got := s.Text(in)
				if !strings.Contains(got, Mask) || !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") {
					t.Errorf("Text(%q) = %q", in, got)
				}
				// At most the characters that share bits with their surroundings, padding and quotes may remain.
				if rest := len(strings.ReplaceAll(got, Mask, "")) - len("before  after"); rest > 14 {
					t.Errorf("Text(%q) = %q: %d bytes remain", in, got, rest)
				}
				if !s.Contains(in) {
					t.Errorf("Contains(%q) = false", in)
				}
			})
		}
	}
}

func enc64(v string) string { return base64.StdEncoding.EncodeToString([]byte(v)) }

func wrap(s string, n int) string {
	var b strings.Builder
	for len(s) > n {
		b.WriteString(s[:n] + "\n")
		s = s[n:]
	}
	return b.String() + s
}

func TestText(t *testing.T) {
	t.Parallel()
	const pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END PRIVATE KEY-----\n"
	cases := []struct {
		name     string
		values   []string
		in, want string
	}{
		{"nothing registered", nil, "secret", "secret"},
		{"one", []string{"s3cr3t"}, "a s3cr3t b", "a *** b"},
		{"whole text", []string{"s3cr3t"}, "s3cr3t", "***"},
		{"adjacent become one", []string{"s3cr3t"}, "s3cr3ts3cr3t!", "***!"},
		{"overlapping", []string{"abcdef", "defghi"}, "xabcdefghix", "x***x"},
		{"longest wins", []string{"abcd", "abcdefgh"}, "abcdefgh abcdefg", "*** ***efg"},
		{"contained", []string{"bcde", "abcdefgh"}, "abcdefgh xbcdex", "*** x***x"},
		{"surrounding space is not part of it", []string{"  s3cr3t\n"}, "s3cr3t", "***"},
		{"whole multi-line value keeps lines", []string{pem}, "x\n" + pem + "y\n", "x\n***\n***\n***\n***\ny\n"},
		{"one line of it", []string{pem}, "AQEFAASCBKcwggSjAgEAAoIB", "***"},
		{"armour alone is no secret", []string{pem}, "-----BEGIN PRIVATE KEY-----\nother", "-----BEGIN PRIVATE KEY-----\nother"},
		{"carriage returns", []string{pem}, strings.ReplaceAll(pem, "\n", "\r\n"), "***\n***\n***\n***\r\n"},
		{"json of multi-line", []string{pem}, `{"k":` + jsonQuote(pem) + `}`, `{"k":"***\n"}`},
		{"ampersand parts", []string{"first-part&second-part"}, "first-part\nsecond-part", "***\n***"},
		{"mask is not masked", []string{"****"}, "*** ****", "*** ****"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := setOf(t, c.values...)
			if got := s.Text(c.in); got != c.want {
				t.Errorf("Text(%q) = %q, want %q", c.in, got, c.want)
			}
			if got := stream(t, s, []byte(c.in), 1); string(got) != c.want {
				t.Errorf("byte by byte: got %q, want %q", got, c.want)
			}
		})
	}
}

func jsonQuote(v string) string { b, _ := json.Marshal(v); return string(b) }

func TestAddRefuses(t *testing.T) {
	t.Parallel()
	s := New(Config{MaxValues: 2, MaxBytes: 100})
	for _, c := range []struct {
		value string
		want  error
	}{
		{"", ErrShort}, {" abc\n", ErrShort}, {strings.Repeat("x", MaxValue+1), ErrLong},
		{strings.Repeat("x", 101), ErrFull}, {"first", nil}, {"first", nil}, {"second", nil}, {"third", ErrFull},
	} {
		if err := s.Add(c.value); !errors.Is(err, c.want) {
			t.Errorf("Add(%.10q) = %v, want %v", c.value, err, c.want)
		}
	}
}

func TestWriterHoldsBackOnlyWhatMayBeAValue(t *testing.T) {
	t.Parallel()
	s := setOf(t, "s3cr3t-value")
	var out bytes.Buffer
	w := s.NewWriter(&out)
	for _, c := range []struct{ in, want string }{
		{"a line\n", "a line\n"}, {"tail s3cr3", "tail "}, {"t-val", ""}, {"ue\n", "***\n"}, {"s3cr3", ""}, {"x", "s3cr3x"},
	} {
		out.Reset()
		if _, err := io.WriteString(w, c.in); err != nil || out.String() != c.want {
			t.Errorf("after %q: got %q, %v, want %q", c.in, out.String(), err, c.want)
		}
	}
	out.Reset()
	_, _ = io.WriteString(w, "s3cr")
	if err := w.Flush(); err != nil || out.String() != "s3cr" || w.Held() != 0 {
		t.Errorf("after Flush: %q, %v, %d held", out.String(), err, w.Held())
	}
}

func TestAddWhileWriting(t *testing.T) {
	t.Parallel()
	s := setOf(t, "first-secret")
	var out bytes.Buffer
	w := s.NewWriter(&out)
	_, _ = io.WriteString(w, "second-secret first-sec")
	if err := s.Add("first-second"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(w, "ond first-secret\n")
	if want := "second-secret *** ***\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestWriterReportsError(t *testing.T) {
	t.Parallel()
	w := setOf(t, "some-secret").NewWriter(failing{})
	if _, err := io.WriteString(w, "x"); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s := setOf(t, "the-first-secret")
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			w := s.NewWriter(io.Discard)
			for i := range 200 {
				_ = s.Add(fmt.Sprintf("secret-%d-%d", g, i))
				_, _ = fmt.Fprintf(w, "some text with secret-%d-%d in it\n", g, i)
				_ = s.Contains("the-first-secret")
			}
		})
	}
	wg.Wait()
}

// naive marks all occurrences of all forms and replaces the marked bytes.
func naive(s *Set, in []byte) []byte {
	marked := make([]bool, len(in))
	for f := range s.forms {
		for i := 0; i+len(f) <= len(in); i++ {
			if string(in[i:i+len(f)]) == f {
				for j := range len(f) {
					marked[i+j] = true
				}
			}
		}
	}
	var out []byte
	masking := false
	for i, c := range in {
		switch {
		case !marked[i]:
			out, masking = append(out, c), false
		case c == '\n':
			out, masking = append(out, c), false
		case !masking:
			out, masking = append(out, Mask...), true
		}
	}
	return out
}

func stream(t testing.TB, s *Set, in []byte, sizes ...int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := s.NewWriter(&out)
	for i := 0; len(in) > 0; i++ {
		n := min(max(1, sizes[i%len(sizes)]), len(in))
		if _, err := w.Write(in[:n]); err != nil {
			t.Fatal(err)
		}
		in = in[n:]
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestDifferential compares with the naive way on texts of a tiny alphabet,
// where values overlap, nest and repeat.
func TestDifferential(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	text := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "ab&\n"[r.IntN(4)]
		}
		return string(b)
	}
	for range 500 {
		s := New(Config{})
		for range 1 + r.IntN(4) {
			_ = s.Add(text(4 + r.IntN(20))) // some are refused: white space
		}
		in := []byte(text(r.IntN(400)))
		want := naive(s, in)
		if got := s.Text(string(in)); got != string(want) {
			t.Fatalf("values %q\nText(%q)\n got %q\nwant %q", s.values, in, got, want)
		}
		if got := stream(t, s, in, 1+r.IntN(5), 1+r.IntN(30)); !bytes.Equal(got, want) {
			t.Fatalf("values %q\nstream of %q\n got %q\nwant %q", s.values, in, got, want)
		}
	}
}

func FuzzWriter(f *testing.F) {
	f.Add("secret", "s3cr3t&more", []byte("a secret s3cr3t&mores3cr3t&mo c2VjcmV0"), uint8(3), uint8(1))
	f.Add("line one of it all\nline two of it all", "aaaa", []byte("line two of it all\naaaaaaa\nline one of it all\nline"), uint8(1), uint8(9))
	f.Add("abab", "babab", []byte("abababab\n\nbabab"), uint8(2), uint8(2))
	f.Add("\xff\xfe\x00\x01", "é€😀", []byte("\xff\xfe\x00\x01 \\u00e9\\u20ac"), uint8(1), uint8(1))
	f.Fuzz(func(t *testing.T, v1, v2 string, in []byte, n1, n2 uint8) {
		if len(v1) > 200 || len(v2) > 200 || len(in) > 4000 {
			t.Skip("the naive way is slow")
		}
		s := New(Config{})
		_ = s.Add(v1)
		_ = s.Add(v2)
		want := naive(s, in)
		if got := s.Text(string(in)); got != string(want) {
			t.Fatalf("Text:\n got %q\nwant %q", got, want)
		}
		if got := stream(t, s, in, int(n1), int(n2)); !bytes.Equal(got, want) {
			t.Fatalf("stream:\n got %q\nwant %q", got, want)
		}
	})
}

// TestScrubberKeepsLengths masks byte for byte, whatever the pieces, and counts the runs.
func TestScrubberKeepsLengths(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	s := New(Config{})
	if err := s.Add("secret\nvalue"); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		var in, want []byte
		runs := 0
		for range r.IntN(6) {
			in, want = append(in, "x secre"...), append(want, "x secre"...)
			if r.IntN(2) == 0 {
				in, want = append(in, "secret\nvalue."...), append(want, "******\n*****."...)
				runs += 2 // one on each line
			}
		}
		var out bytes.Buffer
		w := s.NewScrubber(&out)
		for i := 0; i < len(in); {
			n := min(1+r.IntN(9), len(in)-i)
			if _, err := w.Write(in[i : i+n]); err != nil {
				t.Fatal(err)
			}
			i += n
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), want) || w.Masked() != runs {
			t.Fatalf("%q\n got %q, %d runs\nwant %q, %d runs", in, out.Bytes(), w.Masked(), want, runs)
		}
	}
}

// BenchmarkWriter measures masking of log-like text with 200 secrets, written
// in pieces of 64 KiB, and with a secret in every 50 KB of text.
func BenchmarkWriter(b *testing.B) {
	for _, length := range []int{8, 16, 32} {
		b.Run(fmt.Sprintf("secrets of %d bytes", length), func(b *testing.B) {
			s, text := benchInput(length)
			patterns := len(s.matcher().patterns)
			b.SetBytes(int64(len(text)))
			before := cpuTime(b)
			n := 0
			for b.Loop() {
				n++
				w := s.NewWriter(io.Discard)
				for i := 0; i < len(text); i += 64 << 10 {
					_, _ = w.Write(text[i:min(i+64<<10, len(text))])
				}
				_ = w.Flush()
			}
			// Other work on the machine does not distort this one.
			b.ReportMetric(float64(n)*float64(len(text))/1e6/(cpuTime(b)-before).Seconds(), "MB/s-of-CPU")
			b.ReportMetric(float64(patterns), "patterns")
		})
	}
}

// cpuTime is the processor time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBuild measures how long 200 secrets take to become a matcher.
func BenchmarkBuild(b *testing.B) {
	s, _ := benchInput(32)
	for b.Loop() {
		s.stale.Store(true)
		s.matcher()
	}
}

func benchInput(length int) (*Set, []byte) {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	r := rand.New(rand.NewPCG(3, 4))
	s := New(Config{})
	var values []string
	for range 200 {
		v := make([]byte, length+r.IntN(48))
		for i := range v {
			v[i] = letters[r.IntN(len(letters))]
		}
		values = append(values, string(v))
		_ = s.Add(string(v))
	}
	var text bytes.Buffer
	for i := 0; text.Len() < 8<<20; i++ {
		fmt.Fprintf(&text, "2026-01-02T15:04:05.%07dZ [info] compiling package %d of example.com/project/internal/part%x in %dms cache=%x\n",
			r.IntN(1e7), i, r.Uint32(), r.IntN(1000), r.Uint64())
		if i%400 == 0 {
			text.WriteString("leak: " + values[r.IntN(len(values))] + "\n")
		}
	}
	return s, text.Bytes()
}
