package blobstore

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

const job = sallyport.JobID("0190c0de-0000-7000-8000-000000000001")

func appendLog(t testing.TB, l *Logs, j sallyport.JobID, data string) {
	t.Helper()
	end, err := l.Size(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), j, end, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func logPath(dir string, j sallyport.JobID) string { return filepath.Join(dir, string(j)+logExt) }

// writeLog makes a log of three frames and returns its file.
func writeLog(t testing.TB, dir string, kms sallyport.KMS, j sallyport.JobID, frames ...string) []byte {
	t.Helper()
	l := openLogs(t, dir, kms)
	for _, f := range frames {
		appendLog(t, l, j, f)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(logPath(dir, j))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLogsReopened(t *testing.T) {
	t.Parallel()
	dir, kms := t.TempDir(), sallyporttest.NewKMS()
	file := writeLog(t, dir, kms, job, "first\n", "second\n", "third\n")
	if bytes.Contains(file, []byte("second")) {
		t.Fatal("the log is on the disk in clear")
	}
	l := openLogs(t, dir, kms)
	appendLog(t, l, job, "fourth\n")
	got, err := l.Read(t.Context(), job, 6, 100)
	if want := "second\nthird\nfourth\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// TestLogsTorn cuts the file at every byte of its last frame, or leaves garbage
// there, as a crash may: all before it stays, and the log goes on.
func TestLogsTorn(t *testing.T) {
	t.Parallel()
	kms := sallyporttest.NewKMS()
	dir := t.TempDir()
	good := writeLog(t, dir, kms, job, "first\n", "second\n")
	last := len(good) - frameMore - len("second\n")
	cases := map[string][]byte{
		"zeros":          append(slices.Clone(good[:last]), make([]byte, 100)...),
		"garbage":        append(slices.Clone(good[:last]), bytes.Repeat([]byte{0xa5}, 5000)...),
		"wrong tag":      append(slices.Clone(good[:len(good)-1]), good[len(good)-1]^1),
		"length of zero": append(slices.Clone(good[:last]), 0, 0, 0, 0),
	}
	for n := last; n < len(good); n++ {
		cases[fmt.Sprint("cut at ", n)] = good[:n]
	}
	for name, bad := range cases {
		dir := t.TempDir()
		if err := os.WriteFile(logPath(dir, job), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		l := openLogs(t, dir, kms)
		end, err := l.Append(t.Context(), job, 13, []byte("x"))
		if end != 6 || sallyport.ErrorCode(err) != sallyport.CodeConflict {
			t.Errorf("%s: append behind the cut: %d, %v", name, end, err)
		}
		appendLog(t, l, job, "again\n")
		if got, err := l.Read(t.Context(), job, 0, 100); err != nil || string(got) != "first\nagain\n" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

// TestLogsTampered changes a long log: what is read is true, and a change is
// reported, but for an end that was cut.
func TestLogsTampered(t *testing.T) {
	t.Parallel()
	dir, kms := t.TempDir(), sallyporttest.NewKMS()
	line := strings.Repeat("x", 99_999) + "\n"
	var frames []string
	for range 40 {
		frames = append(frames, line)
	}
	whole := strings.Join(frames, "")
	good := writeLog(t, dir, kms, job, frames...)
	_, start, err := decodeHead(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	frame := len(line) + frameMore
	at := func(n int) int { return int(start) + n*frame }
	flip := func(i int) []byte { b := slices.Clone(good); b[i] ^= 1; return b }
	other := writeLog(t, t.TempDir(), kms, "other", frames...)
	for name, bad := range map[string][]byte{
		"length":               flip(at(2) + 3),
		"large length":         flip(at(2)),
		"nonce":                flip(at(2) + 5),
		"ciphertext":           flip(at(2) + 50),
		"tag":                  flip(at(3) - 1),
		"frames swapped":       slices.Concat(good[:at(1)], good[at(2):at(3)], good[at(1):at(2)], good[at(3):]),
		"frame left out":       slices.Concat(good[:at(1)], good[at(2):]),
		"frame repeated":       slices.Concat(good[:at(2)], good[at(1):]),
		"frame of another log": slices.Concat(good[:at(1)], other[at(1):at(2)], good[at(2):]),
		"key of another log":   slices.Concat(other[:at(0)], good[at(0):]),
		"another log":          other,
		"magic":                flip(0),
		"key":                  flip(30),
		"no head":              good[at(0):],
	} {
		dir := t.TempDir()
		if err := os.WriteFile(logPath(dir, job), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		l := openLogs(t, dir, kms)
		got, err := l.Read(t.Context(), job, 0, maxRead)
		if sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
		if !strings.HasPrefix(whole, string(got)) {
			t.Errorf("%s: false bytes were read", name)
		}
		if _, err := l.Append(t.Context(), job, 0, []byte(whole+"more")); err != nil && sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%s: append: %v", name, err)
		}
	}
}

// TestLogsCut shortens a log behind the back of who has it open.
func TestLogsCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLogs(t, dir, sallyporttest.NewKMS())
	appendLog(t, l, job, "first\n")
	appendLog(t, l, job, "second\n")
	if err := os.Truncate(logPath(dir, job), 100); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Read(t.Context(), job, 0, 100); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestLogsFull(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t)
	l := openLogs(t, dir, sallyporttest.NewKMS())
	appendLog(t, l, job, "first\n")
	end, err := l.Append(t.Context(), job, 6, make([]byte, 8<<20))
	if sallyport.ErrorCode(err) != sallyport.CodeUnavailable || end < 6 {
		t.Errorf("append to a full disk: %d, %v", end, err)
	}
	if size, err := l.Size(t.Context(), job); err != nil || size != end {
		t.Errorf("size %d, %v, but append said %d", size, err, end)
	}
	if _, err := l.Append(t.Context(), "other", 0, make([]byte, 1<<20)); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("a new log on a full disk: %v", err)
	}
	if err := os.Remove(logPath(dir, "other")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	got, err := l.Read(t.Context(), job, 0, 6)
	if err != nil || string(got) != "first\n" {
		t.Errorf("what was there: %q, %v", got, err)
	}
}

// TestLogsMany uses more logs than are kept open.
func TestLogsMany(t *testing.T) {
	t.Parallel()
	l := openLogs(t, t.TempDir(), sallyporttest.NewKMS())
	id := func(n int) sallyport.JobID { return sallyport.JobID(fmt.Sprint("job-", n)) }
	for round := range 2 {
		for n := range 2 * maxOpenLogs {
			appendLog(t, l, id(n), fmt.Sprintf("%d of %d\n", round, n))
		}
	}
	if n := len(l.open); n > maxOpenLogs {
		t.Errorf("%d logs are open", n)
	}
	for n := range 2 * maxOpenLogs {
		want := fmt.Sprintf("0 of %d\n1 of %d\n", n, n)
		if got, err := l.Read(t.Context(), id(n), 0, 100); err != nil || string(got) != want {
			t.Errorf("log %d: %q, %v", n, got, err)
		}
	}
}

// FuzzLogFile gives files that are not ours to Read and Append.
func FuzzLogFile(f *testing.F) {
	kms := sallyporttest.NewKMS()
	whole := "first\nsecond\nthird\n"
	good := writeLog(f, f.TempDir(), kms, job, "first\n", "second\n", "third\n")
	_, start, err := decodeHead(bytes.NewReader(good))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, false)
	f.Add(good[:start], false)
	f.Add(good[:len(good)-3], false)
	f.Add(good[start:], true)
	f.Add([]byte{0, 0, 0, 1, 2, 3}, true)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, true)
	f.Fuzz(func(t *testing.T, b []byte, head bool) {
		if head {
			b = slices.Concat(good[:start], b) // else hardly a file gets past its key
		}
		dir := t.TempDir()
		if err := os.WriteFile(logPath(dir, job), b, 0o600); err != nil {
			t.Fatal(err)
		}
		l := openLogs(t, dir, kms)
		got, err := l.Read(t.Context(), job, 0, 1<<20)
		if err != nil && sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Fatalf("read: %v", err)
		}
		if !strings.HasPrefix(whole, string(got)) {
			t.Fatalf("false bytes were read: %q", got)
		}
		if err == nil {
			appendLog(t, l, job, "more")
			if again, err := l.Read(t.Context(), job, 0, 1<<20); err != nil || string(again) != string(got)+"more" {
				t.Fatalf("after an append: %q, %v", again, err)
			}
		}
	})
}
