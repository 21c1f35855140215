package trace

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

func start(t *testing.T, r *Recorder, path, content, args string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "program")
	write(t, name, content)
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	r.Started(sallyport.ProgramStart{Path: path, Arguments: sallyport.DigestOf([]byte(args)), File: f})
}

func TestPrograms(t *testing.T) {
	r := New(Config{})
	r.Begin(1)
	start(t, r, "/bin/cc", "compiler", "a")
	start(t, r, "/bin/cc", "compiler", "b")
	r.Begin(2)
	start(t, r, "/bin/cc", "compiler", "a")
	r.End(1)
	start(t, r, "/bin/cc", "another", "a")
	r.Started(sallyport.ProgramStart{Path: "memfd:x", Arguments: sallyport.DigestOf([]byte("c"))})
	trace := r.Finish()
	d := func(s string) sallyport.Digest { return sallyport.DigestOf([]byte(s)) }
	want := []sallyport.Program{
		{Path: "/bin/cc", Digest: d("another"), Starts: 1, Steps: []int{2}, Arguments: []sallyport.Digest{d("a")}},
		{Path: "/bin/cc", Digest: d("compiler"), Starts: 3, Steps: []int{0, 1}, Arguments: []sallyport.Digest{d("a"), d("b")}},
		{Path: "memfd:x", Starts: 1, Steps: []int{2}, Arguments: []sallyport.Digest{d("c")}},
	}
	// Which of the merged entries came first is a map's word: their arguments have no order here.
	for i, p := range trace.Programs {
		if len(p.Arguments) == 2 && p.Arguments[0] == d("b") {
			trace.Programs[i].Arguments = []sallyport.Digest{d("a"), d("b")}
		}
	}
	if !reflect.DeepEqual(trace.Programs, want) || trace.Starts != 5 || trace.Lost != 0 {
		t.Errorf("trace %+v", trace)
	}
}

// TestProgramFlood starts more programs than are kept.
func TestProgramFlood(t *testing.T) {
	r := New(Config{})
	for i := range 3 * maxPrograms {
		r.Started(sallyport.ProgramStart{Path: fmt.Sprintf("/tmp/%d", i), Arguments: sallyport.DigestOf([]byte(fmt.Sprint(i)))})
	}
	for i := range 2 * maxArguments {
		r.Started(sallyport.ProgramStart{Path: "/tmp/0", Arguments: sallyport.DigestOf([]byte(fmt.Sprint("other", i)))})
	}
	trace := r.Finish()
	if len(trace.Programs) != maxPrograms || trace.Lost != 2*maxPrograms || trace.Starts != 3*maxPrograms+2*maxArguments {
		t.Errorf("%d programs, %d lost, %d starts", len(trace.Programs), trace.Lost, trace.Starts)
	}
	if n := len(trace.Programs[0].Arguments); n != maxArguments {
		t.Errorf("%d arguments", n)
	}
}

// TestDigestsAreKept reads a program that the job cannot have written once, and one that it
// can each time.
func TestDigestsAreKept(t *testing.T) {
	d := &Digests{}
	for range 2 {
		r := New(Config{Digests: d})
		start(t, r, "/bin/own", "the job's own", "")
		f, err := os.Open("/bin/sh")
		if err != nil {
			t.Fatal(err)
		}
		r.Started(sallyport.ProgramStart{Path: "/bin/sh", File: f})
		if trace := r.Finish(); trace.Programs[0].Digest == "" || trace.Programs[1].Digest == "" {
			t.Errorf("trace %+v", trace)
		}
	}
	if len(d.seen) != 1 {
		t.Errorf("%d digests are kept, want that of the shell", len(d.seen))
	}
}

// TestRemovedProgram reads a program that is gone when its turn comes.
func TestRemovedProgram(t *testing.T) {
	r := New(Config{})
	name := filepath.Join(t.TempDir(), "program")
	write(t, name, "compiled, run and thrown away")
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	r.Started(sallyport.ProgramStart{Path: name, File: f})
	if got := r.Finish().Programs[0].Digest; got != sallyport.DigestOf([]byte("compiled, run and thrown away")) {
		t.Errorf("digest %q", got)
	}
}
