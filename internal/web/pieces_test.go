package web

import (
	"fmt"
	"math"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// ansiCases are lines with the pieces they make; the browser test holds ansi.js to them too.
var ansiCases = []struct {
	text string
	want []segment
}{
	{"plain", []segment{{"", "plain"}}},
	{"", []segment{{"", ""}}},
	{"\x1b[31mred\x1b[0m on", []segment{{"f1", "red"}, {"", " on"}}},
	{"\x1b[1;32;44mx\x1b[22my\x1b[49mz", []segment{{"f2 b4 bo", "x"}, {"f2 b4", "y"}, {"f2", "z"}}},
	{"\x1b[91ma\x1b[107mb\x1b[39mc", []segment{{"f9", "a"}, {"f9 b15", "b"}, {"b15", "c"}}},
	{"\x1b[7minv\x1b[27m", []segment{{"flip", "inv"}}},
	{"\x1b[7;31mx", []segment{{"b1", "x"}}},
	{"\x1b[38;5;196mx\x1b[38;5;240my\x1b[38;5;3mz", []segment{{"f9", "x"}, {"f8", "y"}, {"f3", "z"}}},
	{"\x1b[38;2;0;128;0mx\x1b[48;2;255;255;255my", []segment{{"f2", "x"}, {"f2 b15", "y"}}},
	{"\x1b[38:2:10:10:10mx", []segment{{"f0", "x"}}},
	{"\x1b[mreset", []segment{{"", "reset"}}},
	{"a\x1b[2Kb", []segment{{"", "a"}, {"", "b"}}},
	{"cut\x1b[31", []segment{{"", "cut"}}},
	{"odd\x1b[38;5", []segment{{"", "odd"}}},
	{"odd\x1b[38mx", []segment{{"", "odd"}, {"", "x"}}},
	{"\x1b[3;4;2mx\x1b[23;24my", []segment{{"di it un", "x"}, {"di", "y"}}},
	{"\x1b[31m<b>&\x1b[0m", []segment{{"f1", "<b>&"}}},
}

func TestANSI(t *testing.T) {
	t.Parallel()
	for _, c := range ansiCases {
		if got := ansiSegments(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
}

func FuzzANSI(f *testing.F) {
	for _, c := range ansiCases {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		length := 0
		for _, s := range ansiSegments(text) {
			length += len(s.Text)
			if strings.Trim(s.Class, "abdefilnotup0123456789 ") != "" {
				t.Errorf("%q: class %q", text, s.Class)
			}
			if !strings.Contains(text, s.Text) {
				t.Errorf("%q: %q was made up", text, s.Text)
			}
		}
		if length > len(text) {
			t.Errorf("%q grew to %d bytes", text, length)
		}
	})
}

func FuzzDecodeLog(f *testing.F) {
	f.Add([]byte(`{"t":1,"s":2,"x":"a"}`+"\n"), false)
	f.Add([]byte(`rest of a line"}`+"\n"+`{"x":"b"}`+"\n"+`{"x":"half`), true)
	f.Add([]byte("\n\n[]\nnull\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, skip bool) {
		lines, used := decodeLog(data, skip)
		want := strings.Count(string(data), "\n")
		if skip && want > 0 {
			want--
		}
		if len(lines) != want || used != strings.LastIndex(string(data), "\n")+1 {
			t.Errorf("%q: %d lines and %d bytes, want %d", data, len(lines), used, want)
		}
	})
}

func FuzzReadBuilder(f *testing.F) {
	f.Add([]byte(`{"buildDefinition":{"resolvedDependencies":[{"uri":"git+x","digest":{"gitCommit":"ab"}},null]},"runDetails":{"builder":{"id":"b"}}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, predicate []byte) {
		if b := readBuilder(predicate); len(b.Materials) > maxMaterials {
			t.Errorf("%d materials", len(b.Materials))
		}
	})
}

func TestShellQuoting(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"plain", "with space", "it's", `a"b$c` + "`d`", "", "new\nline", "*", "ü", "a;rm -rf b", "x@refs/heads/main"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shell(arg)).Output()
		if err != nil || string(out) != arg {
			t.Errorf("%q became %q as %q, %v", arg, out, shell(arg), err)
		}
	}
	if got := localName("--help"); got != "./--help" {
		t.Errorf("a file named like an option: %q", got)
	}
}

func TestGraph(t *testing.T) {
	t.Parallel()
	job := func(key string, needs ...string) sallyport.Job {
		return sallyport.Job{ID: sallyport.JobID(key), Key: key, Name: key, Needs: needs, Status: sallyport.StatusCompleted, Conclusion: sallyport.Success}
	}
	// a → b → d and a → c → d; d also needs a, which says nothing new.
	g := layOut("r", []sallyport.Job{job("a"), job("b", "a"), job("c", "a"), job("d", "a", "b", "c"), job("lone")})
	at := map[string]card{}
	for _, c := range g.Cards {
		at[c.Key] = c
	}
	if at["a"].X >= at["b"].X || at["b"].X != at["c"].X || at["c"].X >= at["d"].X || at["lone"].X != at["a"].X {
		t.Errorf("columns: %+v", at)
	}
	if len(g.Edges) != 4 {
		t.Errorf("%d edges, want 4: the one from a to d follows from the others", len(g.Edges))
	}
	for i, a := range g.Cards {
		if a.X < 0 || a.Y < 0 || a.X+a.W > g.Width || a.Y+a.H > g.Height {
			t.Errorf("%s is outside of %dx%d: %+v", a.Key, g.Width, g.Height, a)
		}
		for _, b := range g.Cards[i+1:] {
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%s and %s overlap", a.Key, b.Key)
			}
		}
	}
}

// A call is one card that lists the jobs called, whatever calls lie between.
func TestGraphOfCalls(t *testing.T) {
	t.Parallel()
	job := func(id, parent, key, name string, needs ...string) sallyport.Job {
		return sallyport.Job{ID: sallyport.JobID(id), Parent: sallyport.JobID(parent), Key: key, Name: name, Needs: needs, Matrix: []byte("null"), Status: sallyport.StatusCompleted, Conclusion: sallyport.Success}
	}
	cells := func(c card) (out []string) {
		for _, x := range c.Cells {
			out = append(out, x.Name)
		}
		return out
	}
	g := layOut("r", []sallyport.Job{job("1", "", "b", "build"), job("2", "", "rel", "Release", "b"), job("3", "2", "rel/sign", "Release / Sign"),
		job("4", "2", "rel/pub", "Release / Publish", "rel/sign"), job("5", "4", "rel/pub/a", "Release / Publish / a"), job("6", "", "z", "z", "rel")})
	if len(g.Cards) != 3 || len(g.Edges) != 2 || g.Cards[0].List || !g.Cards[1].List {
		t.Fatalf("got %+v", g)
	}
	if got, want := cells(g.Cards[1]), []string{"Sign", "Publish / a"}; g.Cards[1].Title != "Release" || !slices.Equal(got, want) {
		t.Errorf("got card %q with %q, want Release with %q", g.Cards[1].Title, got, want)
	}
	g = layOut("r", []sallyport.Job{job("1", "", "m", "m (1)"), job("2", "1", "m/a", "m (1) / a"), job("3", "", "m", "m (2)"), job("4", "3", "m/a", "m (2) / a")})
	if got, want := cells(g.Cards[0]), []string{"1 / a", "2 / a"}; len(g.Cards) != 1 || !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGraphOfLargeMatrix(t *testing.T) {
	t.Parallel()
	var jobs []sallyport.Job
	for i := range 40 {
		j := sallyport.Job{ID: sallyport.JobID(fmt.Sprint(i)), Key: "m", Index: i, Name: fmt.Sprintf("m (%d, %s)", i, strings.Repeat("x", 40)), Needs: []string{"m", "gone"}, Status: sallyport.StatusCompleted, Conclusion: sallyport.Success}
		if i == 33 {
			j.Conclusion = sallyport.Failure
		}
		jobs = append(jobs, j)
	}
	g := layOut("r", jobs)
	c := g.Cards[0]
	if len(g.Cards) != 1 || len(c.Cells) != maxCells-1 || c.More != "and 33 more below" || c.Tone != "bad" || len(g.Edges) != 0 {
		t.Errorf("card %+v", c)
	}
	if c.Cells[0].Job.Index != 33 || !strings.HasPrefix(c.Cells[0].Name, "33, x") || len([]rune(c.Cells[0].Name)) != maxName {
		t.Errorf("the failed cell must come first: %+v", c.Cells[0])
	}
	if g := layOut("r", nil); len(g.Cards) != 0 {
		t.Errorf("no jobs made %+v", g)
	}
}

func TestLogTailFindsTheEnd(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := &server{Services: f.services()}
	ctx := sallyport.WithPrincipal(t.Context(), sallyport.Principal{Kind: sallyport.Person})
	for _, n := range []int{0, 1, 10, 2000, bigLines} {
		var data []byte
		if n == bigLines {
			data = f.logs[jobBig].data
		} else {
			for i := range n {
				data = append(data, encode(sallyport.LogLine{Step: 8, Text: fmt.Sprintf("%06d and words to make a line of some length", i+1)})...)
			}
		}
		f.logs["tail"] = &fakeLog{data, true}
		got := s.logTail(ctx, "tail", &sallyport.Step{Number: 8})
		if len(got) != min(n, tailLines) {
			t.Errorf("%d lines: tail of %d", n, len(got))
		} else if n > 0 && !strings.Contains(got[len(got)-1].Text, fmt.Sprintf("%06d", n)) {
			t.Errorf("%d lines: tail ends with %q", n, got[len(got)-1].Text)
		}
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{0: "0s", 1500 * time.Nanosecond: "1µs", 41 * time.Millisecond: "41ms", 9500 * time.Millisecond: "9.5s",
		59 * time.Second: "59s", 61 * time.Second: "1m 01s", 2*time.Hour + 5*time.Minute: "2h 05m", 73 * time.Hour: "3d 1h", -time.Second: "0s"} {
		if got := formatDuration(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 8 << 20: "8.0 MiB", 3 << 40: "3.0 TiB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for _, s := range []sallyport.Status{"", "new", sallyport.StatusCompleted} {
		if b := progressBadge(s, "surprise"); b.Tone != "warn" {
			t.Errorf("unknown state %q: %+v", s, b)
		}
	}
	if b := decisionBadge("maybe"); b.Text != "denied" {
		t.Errorf("an unknown decision: %+v", b)
	}
}

// TestContrast computes the contrast of text in both schemes (WCAG 2.2, 1.4.3: 4.5 to 1).
func TestContrast(t *testing.T) {
	t.Parallel()
	css, err := staticFS.ReadFile("static/app.css")
	if err != nil {
		t.Fatal(err)
	}
	light, rest, _ := strings.Cut(string(css), "@media (prefers-color-scheme: dark)")
	dark, _, _ := strings.Cut(rest, "*, ::before")
	pairs := [][2]string{{"ink", "bg"}, {"ink", "surface"}, {"soft", "sunken"}, {"muted", "bg"}, {"muted", "surface"}, {"muted", "sunken"}, {"accent", "bg"}, {"accent", "accent-soft"}, {"accent-ink", "accent"},
		{"ok", "ok-soft"}, {"bad", "bad-soft"}, {"busy", "busy-soft"}, {"wait", "wait-soft"}, {"warn", "warn-soft"}, {"off", "off-soft"}, {"bad", "surface"}, {"ink", "mark"}, {"ink", "mark-now"}}
	for i := range 16 {
		pairs = append(pairs, [2]string{fmt.Sprintf("c%d", i), "log-bg"})
	}
	for scheme, text := range map[string]string{"light": light, "dark": dark} {
		for _, p := range pairs {
			a, b := luminance(t, text, p[0]), luminance(t, text, p[1])
			if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < 4.5 {
				t.Errorf("%s: %s on %s has a contrast of %.2f", scheme, p[0], p[1], ratio)
			}
		}
	}
}

// luminance is the relative luminance of a colour variable.
func luminance(t *testing.T, css, name string) float64 {
	t.Helper()
	var rgb [3]int
	i := strings.Index(css, "--"+name+": #")
	if i < 0 {
		t.Fatalf("no colour %s", name)
	}
	if _, err := fmt.Sscanf(css[i+len(name)+5:][:6], "%02x%02x%02x", &rgb[0], &rgb[1], &rgb[2]); err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		c := float64(rgb[i]) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
