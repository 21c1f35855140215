package runner

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/redact"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// memoryLog is a job log that is not sent: what a step's output makes of bytes.
func memoryLog(secrets ...string) *jobLog {
	mask := redact.New(redact.Config{})
	for _, s := range secrets {
		_ = mask.Add(s)
	}
	return newJobLog(nil, sallyport.LeaseRef{}, mask, 1<<40, func() time.Time { return time.UnixMilli(1) }, slog.New(slog.DiscardHandler), func() {})
}

// TestLogPace: a line after a silence is sent at once, those that follow together.
func TestLogPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		yard := newFakeYard()
		l := newJobLog(yard, sallyport.LeaseRef{}, redact.New(redact.Config{}), 1<<20, time.Now, slog.New(slog.DiscardHandler), func() {})
		go l.send(t.Context())
		appends := func() int {
			synctest.Wait()
			yard.mu.Lock()
			defer yard.mu.Unlock()
			return yard.appends
		}
		say := func() { l.say(1, sallyport.LogOutput, "a line") }
		for _, silence := range []time.Duration{0, time.Hour} {
			time.Sleep(silence)
			before := appends()
			say()
			if got := appends(); got != before+1 {
				t.Errorf("after %s: %d appends at once, want 1", silence, got-before)
			}
			for range 10 {
				say()
			}
			if got := appends(); got != before+1 {
				t.Errorf("after %s: %d appends before the others could gather, want 1", silence, got-before)
			}
			time.Sleep(logDelay)
			if got := appends(); got != before+2 {
				t.Errorf("after %s: %d appends in all, want 2", silence, got-before)
			}
		}
		if _, err := l.close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestClean(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"plain", "a\tb é €😀", "a\tb é €😀"},
		{"colours pass", "\x1b[31mred\x1b[0m \x1b[38;2;1;2;3mrgb\x1b[m \x1b[4:3mcurly", "\x1b[31mred\x1b[0m \x1b[38;2;1;2;3mrgb\x1b[m \x1b[4:3mcurly"},
		{"cursor moves vanish", "a\x1b[2K\x1b[1Gb\x1b[?25lc", "abc"},
		{"title by BEL", "\x1b]0;evil\x07x", "x"},
		{"link by ST", "\x1b]8;;http://evil\x1b\\text\x1b]8;;\x1b\\", "text"},
		{"device control", "\x1bP1$r0m\x1b\\x", "x"},
		{"unfinished sequence", "a\x1b[12", "a␛[12"},
		{"unfinished title", "a\x1b]0;evil", "a␛]0;evil"},
		{"lone escape", "a\x1b", "a␛"},
		{"character set", "\x1b(Bx", "x"},
		{"full reset", "\x1bcx", "x"},
		{"private SGR", "\x1b[>4;1mx", "x"},
		{"long SGR", "\x1b[" + strings.Repeat("1;", 40) + "mx", "x"},
		{"controls", "a\x00\x07\x08\x7fb", "a␀␇␈␡b"},
		{"C1", "a\u009b31mb", "a\uFFFD31mb"},
		{"bidi", "a\u202eb\u2066c\u200f", "a\uFFFDb\uFFFDc\uFFFD"},
		{"separators", "a\u2028b", "a\uFFFDb"},
		{"invalid", "a\xff\xc0\xafb\xe2\x82", "a\uFFFD\uFFFD\uFFFDb\uFFFD\uFFFD"},
		{"true replacement character", "a\uFFFDb", "a\uFFFDb"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got, _ := clean(nil, []byte(c.in)); string(got) != c.want {
				t.Errorf("clean(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func TestOutputLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		in      string
		secrets []string
		want    []string
	}{
		{"line ends", "a\nb\r\nc\rd\r\r\ne", nil, []string{"a", "b", "c", "d", "", "e"}},
		{"empty lines", "\n\na\n", nil, []string{"", "", "a"}},
		{"secret over several lines", "x\nline one of it all\nline two of it all\ny\n", []string{"line one of it all\nline two of it all"}, []string{"x", "***", "***", "y"}},
		{"secret over carriage returns", "line one of it all\r\nline two of it all\r\n", []string{"line one of it all\nline two of it all"}, []string{"***", "***"}},
		{"half a secret at the end", "abc s3cr3t-v", []string{"s3cr3t-value"}, []string{"abc s3cr3t-v"}},
		{"erased by the terminal", "s3cr3t\x1b[K-value\n", []string{"s3cr3t-value"}, []string{"***"}},
		{"nearly a command", ":\n:x\n#\n##[x\n ::\n", nil, []string{":", ":x", "#", "##[x", " ::"}},
		{"a command is taken out", "a\n::take::1\nb\n", nil, []string{"a", "[take]", "b"}},
		{"indented by a no-break space", "\u00a0::take::1\n", nil, []string{"[take]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 2, 3, 7, 1000} {
				got := outputLines(t, c.in, size, c.secrets...)
				if strings.Join(got, "|") != strings.Join(c.want, "|") {
					t.Errorf("in pieces of %d: got %q, want %q", size, got, c.want)
				}
			}
		})
	}
}

// outputLines writes in in pieces and returns the text of the log's lines.
func outputLines(t testing.TB, in string, size int, secrets ...string) []string {
	t.Helper()
	log := memoryLog(secrets...)
	var o *output
	o = newPlainOutput(log, 1, func(c workflow.Command) bool {
		if c.Name == "take" {
			o.print(sallyport.LogOutput, "[take]")
			return true
		}
		return false
	})
	for len(in) > 0 {
		n := min(size, len(in))
		_, _ = io.WriteString(o, in[:n])
		in = in[n:]
	}
	o.close()
	_, _ = io.WriteString(o, "late\n")
	var out []string
	for _, l := range decodeLog(t, log.buf) {
		out = append(out, l.Text)
	}
	return out
}

// TestEndlessLine writes far more than any buffer holds without a line end.
func TestEndlessLine(t *testing.T) {
	t.Parallel()
	log := memoryLog("s3cr3t-value")
	o := newPlainOutput(log, 1, func(workflow.Command) bool { return false })
	chunk := bytes.Repeat([]byte("x€ s3cr3t-value "), 4096)
	lines, masked, most := 0, 0, 0
	for range 512 {
		_, _ = o.Write(chunk)
		most = max(most, cap(o.sink.partial)+cap(o.sink.scratch)+cap(o.held))
		for _, l := range decodeLog(t, log.buf) {
			lines++
			masked += strings.Count(l.Text, "***")
			if len(l.Text) > maxLine || !utf8.ValidString(l.Text) || strings.Contains(l.Text, "\uFFFD") || strings.Contains(l.Text, "s3cr3t-value") {
				t.Fatalf("line of %d bytes: %.80q", len(l.Text), l.Text)
			}
		}
		log.buf = nil
	}
	if lines < 100 || most > 4*maxLine {
		t.Errorf("%d lines, %d bytes held", lines, most)
	}
	if masked < 512*4096-4096 {
		t.Errorf("%d masked", masked)
	}
}

func TestLogIsCut(t *testing.T) {
	t.Parallel()
	e := trial{yaml: steps("- run: yes 0123456789012345678901234567890123456789 | head -c 3000000\n- run: echo '::error::later'; exit 1"),
		config: func(c *Config) { c.MaxLog = 1 << 20 }}.try(t)
	if e.Conclusion != sallyport.Failure {
		t.Errorf("conclusion %s", e.Conclusion)
	}
	if e.LogEnd > 1<<20 || !strings.Contains(e.all(), "The log is cut here: it has more than 1 MiB.") {
		t.Errorf("log of %d bytes ends with %.300q", e.LogEnd, e.all()[max(0, len(e.all())-300):])
	}
	if len(e.step(2).Annotations) != 1 {
		t.Errorf("annotations: %v", e.step(2).Annotations)
	}
}

// TestBackPressure checks that a job waits while the control plane takes nothing.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	yard := newFakeYard()
	log := newJobLog(yard, sallyport.LeaseRef{}, redact.New(redact.Config{}), 1<<40, time.Now, slog.New(slog.DiscardHandler), func() {})
	text := bytes.Repeat([]byte("x"), 1<<10)
	wrote := make(chan int)
	go func() {
		for i := range 2 * logBuffer / len(text) {
			log.line(1, "", text)
			wrote <- i
		}
		close(wrote)
	}()
	n := 0
	for n = range wrote {
		if log.mu.Lock(); len(log.buf) >= logBuffer {
			log.mu.Unlock()
			break
		}
		log.mu.Unlock()
	}
	if n < logBuffer/len(text)/2 || n > logBuffer/len(text)+1 {
		t.Errorf("%d lines went in", n)
	}
	go log.send(t.Context())
	for n = range wrote {
	}
	if _, err := log.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(decodeLog(t, yard.log)); got != n+1 {
		t.Errorf("%d lines arrived of %d", got, n+1)
	}
}

func TestLogDelivery(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		append func(y *fakeYard) func(n int) error
	}{
		{"control plane away", func(*fakeYard) func(int) error {
			return func(n int) error {
				if n <= 3 {
					return sallyport.Errorf(sallyport.CodeUnavailable, "away")
				}
				return nil
			}
		}},
		{"taken but not answered", func(y *fakeYard) func(int) error {
			return func(n int) error {
				if n == 1 { // another hand stored the first bytes: the same ones, as the contract has it
					y.log = append(y.log, `{"t":1,"s":1,"x":"line 0"}`+"\n"...)
					return sallyport.Errorf(sallyport.CodeUnavailable, "connection lost")
				}
				return nil
			}
		}},
		{"the end is elsewhere", func(y *fakeYard) func(int) error {
			return func(n int) error {
				if n == 1 {
					y.log = append(y.log, `{"t":1,"s":1,"x":"line 0"}`+"\n"...)
					return sallyport.Errorf(sallyport.CodeConflict, "offset")
				}
				return nil
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			yard := newFakeYard()
			yard.appendErr = c.append(yard)
			poked := make(chan struct{}, 100)
			log := newJobLog(yard, sallyport.LeaseRef{}, redact.New(redact.Config{}), 1<<40, func() time.Time { return time.UnixMilli(1) }, slog.New(slog.DiscardHandler), func() { poked <- struct{}{} })
			go log.send(t.Context())
			for i := range 1000 {
				log.say(1, "", "line %d", i)
			}
			end, err := log.close(t.Context())
			if err != nil || end != int64(len(yard.log)) {
				t.Fatalf("close: %d, %v; stored %d", end, err, len(yard.log))
			}
			for i, l := range decodeLog(t, yard.log) {
				if want := fmt.Sprintf("line %d", i); l.Text != want {
					t.Fatalf("line %d is %q", i, l.Text)
				}
			}
			if len(poked) != 0 {
				t.Error("the lease was doubted")
			}
		})
	}
}

// TestLogThatTheControlPlaneLost checks that a log goes on where a restored
// control plane believes it to end.
func TestLogThatTheControlPlaneLost(t *testing.T) {
	t.Parallel()
	yard := newFakeYard()
	log := newJobLog(yard, sallyport.LeaseRef{}, redact.New(redact.Config{}), 1<<40, time.Now, slog.New(slog.DiscardHandler), func() {})
	log.base = 1000 // acknowledged before the loss
	go log.send(t.Context())
	log.say(1, "", "after")
	end, err := log.close(t.Context())
	if err != nil || end != int64(len(yard.log)) {
		t.Fatalf("close: %d, %v; stored %d", end, err, len(yard.log))
	}
	if lines := decodeLog(t, yard.log); len(lines) != 2 || !strings.Contains(lines[0].Text, "missing") || lines[1].Text != "after" {
		t.Errorf("lines: %+v", lines)
	}
}

func FuzzOutput(f *testing.F) {
	f.Add([]byte("a\r\nb\rc\x1b[31mred\x1b[0m\x1b]0;t\x07 \xff\u202e\n::group::x\n::endgroup::\n"), uint8(3))
	f.Add([]byte("::add-mask::x\n::error file=a,line=1::b%0Ac\n ::notice::y\n##[debug]z\n##["), uint8(1))
	f.Add([]byte("s3cr3t\x1b[1m-value s3cr3t\x00-value\ns3cr3t-\r\nvalue"), uint8(2))
	f.Add(bytes.Repeat([]byte("\u00a0 \x1b["), 50_000), uint8(255))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		run := func(n int) []byte {
			log := memoryLog("s3cr3t-value")
			o := newPlainOutput(log, 1, func(c workflow.Command) bool { return c.Name == "group" })
			for rest := in; len(rest) > 0; {
				k := min(n, len(rest))
				_, _ = o.Write(rest[:k])
				rest = rest[k:]
			}
			o.close()
			return log.buf
		}
		whole := run(len(in) + 1)
		for line := range bytes.Lines(whole) {
			var l sallyport.LogLine
			if err := json.Unmarshal(line, &l); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			again, _ := json.Marshal(l.Text)
			if !utf8.ValidString(l.Text) || strings.Contains(string(again), `\ufffd`) {
				t.Fatalf("text %q", l.Text)
			}
			plain := withoutSGR([]byte(l.Text))
			if strings.Contains(plain, "s3cr3t-value") && len(l.Text) < maxLine/2 {
				t.Fatalf("secret in %q", l.Text)
			}
			for _, r := range plain {
				if r < 0x20 && r != '\t' || r == 0x7f || deceptive(r) {
					t.Fatalf("control %U in %q", r, l.Text)
				}
			}
		}
		if len(in) < maxLine && !bytes.Equal(whole, run(max(1, int(size)))) {
			t.Fatalf("pieces of %d give another log", size)
		}
	})
}

// BenchmarkOutput measures the whole way of a step's output to encoded log
// lines, with 200 secrets.
func BenchmarkOutput(b *testing.B) {
	var secrets []string
	for i := range 200 {
		secrets = append(secrets, fmt.Sprintf("S%dx%dq-ecret-%d", i*7919, i, i*104729))
	}
	log := memoryLog(secrets...)
	line := "2026-01-02T15:04:05.0000000Z [info] compiling package 17 of example.com/project/internal/part in 12ms\n"
	text := []byte(strings.Repeat(line, 32<<10/len(line)))
	o := newPlainOutput(log, 1, func(workflow.Command) bool { return false })
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		_, _ = o.Write(text)
		log.buf = log.buf[:0]
	}
}
